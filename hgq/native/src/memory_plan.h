// Who lies where in one piece of memory, and how long.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

namespace hgqc {

class MemoryPlan {
 public:
  // A place for so many bytes, up to and with time `last`.
  int64_t take(int64_t bytes, int last) {
    const int64_t size = std::max<int64_t>(1, (bytes + kStep - 1) / kStep) * kStep;
    auto best = free_.end();
    for (auto place = free_.begin(); place != free_.end(); ++place)
      if (place->size >= size && (best == free_.end() || place->size < best->size)) best = place;
    int64_t at = end_;
    if (best == free_.end()) {
      end_ += size;
    } else {
      at = best->at;
      best->at += size, best->size -= size;
      if (best->size == 0) free_.erase(best);
    }
    taken_.push_back({at, size, last});
    return at;
  }

  // What was to last up to `now` is free.
  void free_after(int now) {
    for (auto place = taken_.begin(); place != taken_.end();) {
      if (place->last > now) {
        ++place;
        continue;
      }
      release(place->at, place->size);
      place = taken_.erase(place);
    }
  }

  int64_t bytes() const { return end_; }

 private:
  static constexpr int64_t kStep = 64;  // kernels read whole vectors
  struct Place {
    int64_t at, size;
    int last;
  };
  void release(int64_t at, int64_t size) {
    for (auto place = free_.begin(); place != free_.end();) {  // neighbours become one
      if (place->at + place->size == at || at + size == place->at) {
        at = std::min(at, place->at), size += place->size;
        free_.erase(place);
        place = free_.begin();
      } else {
        ++place;
      }
    }
    free_.push_back({at, size, 0});
  }

  std::vector<Place> free_, taken_;
  int64_t end_ = 0;
};

}  // namespace hgqc
