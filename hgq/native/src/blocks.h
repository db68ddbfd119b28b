// Elements in rows, cut into blocks for threads, and numbers of each block folded into one.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "call.h"
#include "fixed.h"

namespace hgqc {
namespace fixed {

constexpr int64_t kBlock = 32768;        // elements
constexpr double kWorthThreads = 150e3;  // nanoseconds of work: waking threads for less takes more of their time than it saves

// Rows of elements cut into blocks. How many there are depends on the shape alone, so that sums are the same with any number of threads.
struct Blocks {
  int64_t count, row, number, size;

  Blocks(int64_t elements, int64_t groups) : count(elements), row(row_length(groups, elements)) {
    const int64_t most = row <= 4096 ? 64 : 16;  // each block has sums of its own
    number = std::max<int64_t>(1, std::min(most, count / kBlock));
    size = (count / number + row - 1) / row * row;
    size = std::max(size, row);
    number = (count + size - 1) / size;
  }

  // work(block, begin, end); `cost`: nanoseconds an element
  template <class Work>
  void run(Threads* threads, double cost, const Work& work) const {
    if (!threads || number <= 1 || cost * count < kWorthThreads) {
      for (int64_t block = 0; block * size < count; ++block) work(block, block * size, std::min(count, (block + 1) * size));
      return;
    }
    threads->ParallelFor(number, (int64_t)(3 * cost * size), [&](int64_t from, int64_t to) {
      for (int64_t block = from; block < to; ++block) work(block, block * size, std::min(count, (block + 1) * size));
    });
  }
};

// One number for each element of a row, in each block.
class Partial {
 public:
  Partial(const Blocks& blocks, float initial) : blocks_(blocks), values_(blocks.number * blocks.row, initial) {}
  float* of(int64_t block) { return values_.data() + block * blocks_.row; }
  // Sums by group, in the order of blocks.
  void sums(int64_t groups, float factor, float* out) const {
    if (groups == values_.size()) {  // one number of each
      for (int64_t j = 0; j < groups; ++j) out[j] = factor * values_[j];
      return;
    }
    std::vector<double> totals(groups, 0.0);
    for (int64_t block = 0; block < blocks_.number; ++block) {
      const float* const values = values_.data() + block * blocks_.row;
      for (int64_t start = 0; start < blocks_.row; start += groups)
        for (int64_t j = 0; j < groups; ++j) totals[j] += values[start + j];
    }
    for (int64_t j = 0; j < groups; ++j) out[j] = factor * (float)totals[j];
  }
  template <class Better>
  void fold(int64_t groups, float* out, const Better& better) const {
    for (int64_t at = 0; at < values_.size(); ++at) {
      float& kept = out[at % groups];
      const float v = values_[at];
      kept = better(v, kept) || v != v ? v : kept;
    }
  }

 private:
  const Blocks& blocks_;
  Numbers values_;
};

}  // namespace fixed
}  // namespace hgqc
