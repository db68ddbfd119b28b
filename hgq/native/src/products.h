// Products of 8-bit integers with 32-bit sums: C[m, n] = scale * sum_k A[m, k] * B[k, n].
//
// One operand holds gradient codes, of magnitude up to 64; the other any int8. The latter is packed as unsigned bytes (its least code is
// subtracted, and what that adds is taken off the sums again), because that is what the processors multiply: unsigned by signed bytes. Four
// neighbours along k lie together. Where a processor adds products in 16 bits (product_tile.h), gradient codes that are too great for that, as
// LUQ's rarely are, are taken out and their products are added afterwards (product_excess.h). All variants give the same bits.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "product_excess.h"

namespace hgqc {

constexpr int64_t kExactDepth = 1 << 18;  // 2^18 products of 127 * 64 at most are below 2^31

// Packs the group-th kTogether indices of an operand, from quadruple `start` on; of gradient codes it also adds up what a correction wants.
template <int kWidth, int kTogether, bool kGradient>
inline void pack_group(const Operand& x, int64_t group, const Range& range, int limit, int64_t start, int64_t depth, uint8_t* out,
                       std::vector<Panel>& panels, std::vector<int32_t>& sums) {
  const int64_t n0 = group * kTogether, n1 = n0 + kTogether;
  pack<kWidth>(x, kGradient ? Range{} : range, 4 * start, depth, n0, n1, out);
  if (!kGradient) return;
  for (int64_t n = n0; n < n1; n += kWidth) {
    uint8_t* const panel = out + n * depth * 4;
    if (!sums.empty()) add_sums<kWidth>(panel, depth, sums.data() + n);
    prepare<kWidth>(panel, depth, limit, panels[n / kWidth]);
  }
}

// A tile of a panel of A and one of B, one of which holds gradient codes.
template <bool kUnsignedA>
inline void sums_of_tile(const uint8_t* a, const uint8_t* b, int64_t depth, const Panel& gradient, int32_t* sum) {
  if (gradient.added == kMostAdded)
    tile<kUnsignedA, kMostAdded>(a, b, depth, sum);
  else if (gradient.added == 2)
    tile<kUnsignedA, kMostAdded >= 2 ? 2 : 1>(a, b, depth, sum);
  else
    tile<kUnsignedA, 1>(a, b, depth, sum);
  for (const Excess& e : gradient.taken) {
    if (kUnsignedA)
      for (int i = 0; i < kRows; ++i) sum[i * kCols + e.index] += e.code * a[(e.quad * kRows + i) * 4 + e.byte];
    else
      for (int j = 0; j < kCols; ++j) sum[e.index * kCols + j] += e.code * b[(e.quad * kCols + j) * 4 + e.byte];
  }
}

// `limit`: see `limit_of_signs`.
// finish(place, width, sums) gets sums of `width` neighbours in the result, once each; finish.fetch(place) says that they will come.
// parallel(count, cost, work) calls work(begin, end) on ranges that cover 0 to count, in any order, on any threads; `cost` in nanoseconds.
template <bool kUnsignedA, class Parallel, class Finish>
void product(const Operand& a, const Operand& b, const Range& range, int limit, Parallel&& parallel, Finish&& finish) {
  const int64_t rows = a.n, cols = b.n;
  const int64_t depths = (std::max<int64_t>(a.k, 1) + 4 * kDepthStep - 1) / (4 * kDepthStep) * kDepthStep;  // quadruples
  const int64_t row_groups = (rows + kRowsPacked - 1) / kRowsPacked, col_groups = (cols + kColsPacked - 1) / kColsPacked;
  const int64_t deepest = std::min<int64_t>(depths, kBlock);
  const Bytes packed_a(row_groups * kRowsPacked * deepest * 4 + kOverRead), packed_b(col_groups * kColsPacked * deepest * 4 + kOverRead);
  std::unique_ptr<int32_t[]> sums(depths > kBlock ? new int32_t[rows * cols] : nullptr);
  const int64_t gradients = kUnsignedA ? col_groups * kColsPacked : row_groups * kRowsPacked;
  std::vector<int32_t> correction(range.low != 0 ? gradients : 0);  // sums of gradient codes
  const uint32_t offset = (uint32_t)(range.low >> range.shift);     // the sums are of code - low: low times the other's sum is missing
  std::vector<Panel> panels(gradients / (kUnsignedA ? kCols : kRows));
  for (int64_t start = 0; start < depths; start += kBlock) {
    const int64_t depth = std::min<int64_t>(kBlock, depths - start);
    const bool first = start == 0, last = start + depth == depths;
    parallel(row_groups + col_groups, depth * kRowsPacked / 2, [&](int64_t from, int64_t to) {
      for (int64_t at = from; at < to; ++at) {
        if (at < row_groups)
          pack_group<kRows, kRowsPacked, !kUnsignedA>(a, at, range, limit, start, depth, packed_a.get(), panels, correction);
        else
          pack_group<kCols, kColsPacked, kUnsignedA>(b, at - row_groups, range, limit, start, depth, packed_b.get(), panels, correction);
      }
    });
    parallel(row_groups * col_groups, depth * kRowsPacked * kColsPacked / 30, [&](int64_t from, int64_t to) {
      int32_t sum[kRows * kCols];
      for (int64_t unit = from; unit < to; ++unit) {
        const int64_t first_row = unit / col_groups * kRowsPacked, end_row = std::min<int64_t>(first_row + kRowsPacked, rows);
        const int64_t first_col = unit % col_groups * kColsPacked, end_col = std::min<int64_t>(first_col + kColsPacked, cols);
        for (int64_t n0 = first_col; n0 < end_col; n0 += kCols) {
          const int64_t width = std::min<int64_t>(kCols, cols - n0);
          for (int64_t row = first_row; row < end_row; row += kRows) {
            const uint8_t *const at_a = packed_a.get() + row * depth * 4, *const at_b = packed_b.get() + n0 * depth * 4;
            const Panel& gradient = panels[kUnsignedA ? n0 / kCols : row / kRows];
            const int64_t height = std::min<int64_t>(kRows, end_row - row);
            for (int64_t i = 0; i < height; ++i) {  // what is read or written behind the tile is fetched meanwhile
              const int64_t place = (row + i) * cols + n0;
              if (sums) __builtin_prefetch(sums.get() + place, 1);
              if (last) finish.fetch(place);
            }
            sums_of_tile<kUnsignedA>(at_a, at_b, depth, gradient, sum);
            for (int64_t i = 0; i < height; ++i) {
              const int64_t m = row + i;
              int32_t* const line = sum + i * kCols;
              if (!first)
                for (int64_t j = 0; j < width; ++j) line[j] += sums[m * cols + n0 + j];
              if (!last) {
                std::memcpy(sums.get() + m * cols + n0, line, width * 4);
                continue;
              }
              if (!correction.empty())
                for (int64_t j = 0; j < width; ++j)
                  line[j] = (int32_t)((uint32_t)line[j] + offset * (uint32_t)correction[kUnsignedA ? n0 + j : m]);
              finish(m * cols + n0, width, line);
            }
          }
        }
      }
    });
  }
}

// A product as float32.
struct Scaled {
  float* out;
  float scale;
  void fetch(int64_t place) const { __builtin_prefetch(out + place, 1); }
  void operator()(int64_t place, int64_t width, const int32_t* sums) const {
    for (int64_t j = 0; j < width; ++j) out[place + j] = (float)sums[j] * scale;
  }
};

// Adds up parts of a product that 32 bits cannot hold.
struct Totals {
  int64_t* out;
  void fetch(int64_t place) const { __builtin_prefetch(out + place, 1); }
  void operator()(int64_t place, int64_t width, const int32_t* sums) const {
    for (int64_t j = 0; j < width; ++j) out[place + j] += sums[j];
  }
};

// What gradient codes of one sign may add up to, so that the sum of their products with the other operand's unsigned bytes fits into 16 bits.
// All codes there can be in such a sum, where these gradients are that small.
inline int limit_of_signs(const Range& gradient, const Range& other) {
  constexpr int kCodes = 2 * kMostAdded;
  const int unsigned_peak = std::max((other.high - other.low) >> other.shift, 1), limit = 32767 / unsigned_peak;
  return kCodes * std::max(gradient.high, -gradient.low) <= limit ? kCodes * kGreatestGradientCode : limit;
}

}  // namespace hgqc
