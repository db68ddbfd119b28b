// Numbers for a while. A quantizer of some tens of channels wants a dozen small arrays: to ask the system for each would take as long as its work.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

namespace hgqc {

// Pieces of memory that a thread has used, by the power of two of their sizes.
class Pieces {
 public:
  static constexpr int kSmallest = 6, kGreatest = 16;  // more is asked for anew: of that, there are few

  static Pieces& own() {
    static thread_local Pieces pieces;
    return pieces;
  }
  static int power_for(int64_t size) {
    int power = kSmallest;
    while (((int64_t)1 << power) < size) ++power;
    return power;
  }
  float* take(int power) {
    if (power > kGreatest || free_[power].empty()) return new float[(int64_t)1 << power];
    float* const piece = free_[power].back();
    free_[power].pop_back();
    return piece;
  }
  void give_back(float* piece, int power) {
    if (power > kGreatest)
      delete[] piece;
    else
      free_[power].push_back(piece);
  }
  ~Pieces() {
    for (auto& pieces : free_)
      for (float* piece : pieces) delete[] piece;
  }

 private:
  std::array<std::vector<float*>, kGreatest + 1> free_;
};

// They are written before they are read. Whoever makes them ends them, on the same thread.
class Numbers {
 public:
  Numbers() = default;
  Numbers(int64_t size, float value) {
    resize(size);
    fill(value);
  }
  Numbers(const Numbers&) = delete;
  Numbers& operator=(const Numbers&) = delete;
  Numbers(Numbers&& other) : at_(other.at_), size_(other.size_), power_(other.power_) { other.at_ = nullptr; }
  ~Numbers() {
    if (at_) Pieces::own().give_back(at_, power_);
  }
  void resize(int64_t size) {
    if (at_) Pieces::own().give_back(at_, power_);
    power_ = Pieces::power_for(size);
    at_ = Pieces::own().take(power_), size_ = size;
  }
  void fill(float value) {
    for (int64_t j = 0; j < size_; ++j) at_[j] = value;
  }
  int64_t size() const { return size_; }
  float* data() { return at_; }
  const float* data() const { return at_; }
  float operator[](int64_t j) const { return at_[j]; }
  float& operator[](int64_t j) { return at_[j]; }

 private:
  float* at_ = nullptr;
  int64_t size_ = 0;
  int power_ = 0;
};

}  // namespace hgqc
