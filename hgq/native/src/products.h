// Products of 8-bit integers with 32-bit sums: C[m, n] = scale * sum_k A[m, k] * B[k, n].
//
// One operand holds gradient codes, of magnitude up to 64; the other any int8. The latter is packed as unsigned bytes (its least code is
// subtracted, and what that adds is taken off the sums again), because that is what the processors multiply: unsigned by signed bytes. Four
// neighbours along k lie together. AVX2 adds products in pairs of 16 bits, which cannot overflow since 2 * 255 * 64 < 2^15. Widening these costs
// as much as multiplying does, so two such pairs are added first, which is half again as fast. Where four gradient codes are too great for
// that, as LUQ's rarely are, some are taken out and their products are added afterwards. All variants give the same bits.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace hgqc {

constexpr int kGreatestGradientCode = 64;
constexpr int64_t kExactDepth = 1 << 18;  // 2^18 products of 127 * 64 at most are below 2^31
constexpr int kBlock = 256;               // quadruples of k that are packed at a time: a panel of B stays in the first cache
constexpr int kRowsPacked = 48;           // rows of A that are packed at a time; a multiple of every kRows
constexpr int kColsPacked = 32;           // columns of B, in the same way

// ---- what differs between processors: one tile of kRows x kCols sums over `depth` quadruples; `depth` is even

#if defined(__AVX512VNNI__) && defined(__AVX512F__) && !defined(HGQC_PORTABLE)
constexpr int kRows = 12, kCols = 32;
constexpr bool kAddsPairs = false;
constexpr const char* kInstructions = "AVX512-VNNI";
template <bool kUnsignedA, bool kPairs>
inline void tile(const uint8_t* a, const uint8_t* b, int64_t depth, int32_t* out) {
  __m512i sum[kRows][2];
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i) sum[i][0] = sum[i][1] = _mm512_setzero_si512();
  for (int64_t k = 0; k < depth; ++k, a += kRows * 4, b += kCols * 4) {
    const __m512i b0 = _mm512_loadu_si512(b), b1 = _mm512_loadu_si512(b + 64);
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) {
      int32_t word;
      std::memcpy(&word, a + 4 * i, 4);
      const __m512i v = _mm512_set1_epi32(word);
      sum[i][0] = kUnsignedA ? _mm512_dpbusd_epi32(sum[i][0], v, b0) : _mm512_dpbusd_epi32(sum[i][0], b0, v);
      sum[i][1] = kUnsignedA ? _mm512_dpbusd_epi32(sum[i][1], v, b1) : _mm512_dpbusd_epi32(sum[i][1], b1, v);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i) {
    _mm512_storeu_si512(out + i * kCols, sum[i][0]);
    _mm512_storeu_si512(out + i * kCols + 16, sum[i][1]);
  }
}

#elif defined(__AVX2__) && !defined(HGQC_PORTABLE)
#if defined(__AVXVNNI__)
constexpr int kRows = 6, kCols = 16;  // sums enough to wait for: an instruction takes five cycles, and two start in each
constexpr bool kAddsPairs = false;
constexpr const char* kInstructions = "AVX-VNNI";
#else
constexpr int kRows = 3, kCols = 16;  // more sums than this, and the operands do not stay in the 16 registers
constexpr bool kAddsPairs = true;
constexpr const char* kInstructions = "AVX2";
#endif
template <bool kUnsignedA, bool kPairs>
inline void tile(const uint8_t* a, const uint8_t* b, int64_t depth, int32_t* out) {
  __m256i sum[kRows][2];
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) sum[i][0] = sum[i][1] = _mm256_setzero_si256();
#if !defined(__AVXVNNI__)
  const __m256i ones = _mm256_set1_epi16(1);
#endif
  constexpr int kStep = kPairs ? 2 : 1;
  for (int64_t k = 0; k < depth; k += kStep, a += kStep * kRows * 4, b += kStep * kCols * 4) {
    __m256i column[kStep][2];
#pragma GCC unroll 2
    for (int s = 0; s < kStep; ++s)
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) column[s][j] = _mm256_load_si256((const __m256i*)(b + (s * kCols + 8 * j) * 4));
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) {
      [[maybe_unused]] __m256i pairs[2];
#pragma GCC unroll 2
      for (int s = 0; s < kStep; ++s) {
        int32_t word;
        std::memcpy(&word, a + (s * kRows + i) * 4, 4);
        const __m256i v = _mm256_set1_epi32(word);
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
#if defined(__AVXVNNI__)
          sum[i][j] = kUnsignedA ? _mm256_dpbusd_avx_epi32(sum[i][j], v, column[s][j]) : _mm256_dpbusd_avx_epi32(sum[i][j], column[s][j], v);
#else
          const __m256i two = kUnsignedA ? _mm256_maddubs_epi16(v, column[s][j]) : _mm256_maddubs_epi16(column[s][j], v);
          pairs[j] = s ? _mm256_add_epi16(pairs[j], two) : two;
#endif
        }
      }
#if !defined(__AVXVNNI__)
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) sum[i][j] = _mm256_add_epi32(sum[i][j], _mm256_madd_epi16(pairs[j], ones));
#endif
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) {
    _mm256_storeu_si256((__m256i*)(out + i * kCols), sum[i][0]);
    _mm256_storeu_si256((__m256i*)(out + i * kCols + 8), sum[i][1]);
  }
}

#else
constexpr int kRows = 6, kCols = 16;
constexpr bool kAddsPairs = false;
constexpr const char* kInstructions = "portable C++";
template <bool kUnsigned>
inline int32_t byte_of(uint32_t word, int number) {
  const uint32_t top = word << (24 - 8 * number);
  return kUnsigned ? (int32_t)(top >> 24) : (int32_t)top >> 24;
}
template <bool kUnsignedA, bool kPairs>
inline void tile(const uint8_t* a, const uint8_t* b, int64_t depth, int32_t* out) {
  int32_t sum[kRows * kCols] = {};
  for (int64_t k = 0; k < depth; ++k, a += kRows * 4, b += kCols * 4) {
    uint32_t words[kCols], word;
    std::memcpy(words, b, sizeof(words));
    for (int q = 0; q < 4; ++q) {
      int32_t column[kCols];
      for (int j = 0; j < kCols; ++j) column[j] = byte_of<!kUnsignedA>(words[j], q);
      for (int i = 0; i < kRows; ++i) {
        std::memcpy(&word, a + 4 * i, 4);
        const int32_t x = byte_of<kUnsignedA>(word, q);
        for (int j = 0; j < kCols; ++j) sum[i * kCols + j] += x * column[j];
      }
    }
  }
  std::memcpy(out, sum, sizeof(sum));
}
#endif

// ---- packing

// Memory that begins with a cache line: loads of a vector that cross lines take twice as long.
class Bytes {
 public:
  explicit Bytes(int64_t count) : data_(static_cast<uint8_t*>(::operator new(count, std::align_val_t(64)))) {}
  ~Bytes() { ::operator delete(data_, std::align_val_t(64)); }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  uint8_t* get() const { return data_; }

 private:
  uint8_t* data_;
};

// A matrix of codes with a contracted axis (length k) and another one (length n).
struct Operand {
  const int8_t* codes;
  int64_t n, k;
  bool contracted_first;  // codes[k][n], else codes[n][k]
};

// What codes have in common: they lie between low and high (0 included), and are divisible by 2^shift.
struct Range {
  int low = 0, high = 0, shift = 0;
  void include(const Range& other) {
    low = std::min(low, other.low);
    high = std::max(high, other.high);
    shift = std::min(shift, other.shift);
  }
};

inline Range range_of(const int8_t* codes, int64_t count) {
  int8_t low = 0, high = 0, any = 0;
  for (int64_t i = 0; i < count; ++i) {
    low = std::min(low, codes[i]);
    high = std::max(high, codes[i]);
    any |= codes[i];
  }
  Range range{low, high, 0};
  while (range.shift < 7 && !((any >> range.shift) & 1)) ++range.shift;
  return range;
}

// Panels of `width` indices of n, out[panel][quadruple][index][4], of the quadruples that begin at k0; zeros where the operand ends.
// Packs those that hold indices n0 to n1, a multiple of `width` apart, of at most kRowsPacked.
inline void pack(const Operand& x, const Range& range, int width, int64_t k0, int64_t depth, int64_t n0, int64_t n1, uint8_t* out) {
  const uint8_t low = (uint8_t)range.low;
  const int shift = range.shift;
  const int64_t length = std::min<int64_t>(4 * depth, x.k - k0), count = std::min(n1, x.n) - n0, panels = (n1 - n0) / width;
  uint8_t* const to = out + n0 * depth * 4;
  if (n0 + count < n1 || length < 4 * depth) std::memset(to, 0, (n1 - n0) * depth * 4);
  if (!x.contracted_first) {
    uint8_t line[4 * kBlock];
    for (int64_t j = 0; j < count; ++j) {
      const uint8_t* const from = (const uint8_t*)x.codes + (n0 + j) * x.k + k0;
      for (int64_t i = 0; i < length; ++i) line[i] = (uint8_t)((uint8_t)(from[i] - low) >> shift);
      std::memset(line + length, 0, -length & 3);
      uint8_t* const at = to + (j / width * depth * width + j % width) * 4;
      for (int64_t quad = 0; 4 * quad < length; ++quad) std::memcpy(at + quad * width * 4, line + 4 * quad, 4);
    }
    return;
  }
  for (int64_t quad = 0; 4 * quad < length; ++quad) {
    uint8_t line[4 * kRowsPacked] = {};
    const int64_t rows = std::min<int64_t>(4, length - 4 * quad);
    const uint8_t* const from = (const uint8_t*)x.codes + (k0 + 4 * quad) * x.n + n0;
    int64_t j = 0;
#if defined(__SSE2__)
    if (rows == 4) {
      const __m128i lows = _mm_set1_epi8((char)low), shifts = _mm_cvtsi32_si128(shift);
      for (; j + 16 <= count; j += 16) {
        __m128i r[4];
        for (int q = 0; q < 4; ++q)  // what is divisible by 2^shift can be shifted in 16 bits: no bit crosses into the next byte
          r[q] = _mm_srl_epi16(_mm_sub_epi8(_mm_loadu_si128((const __m128i*)(from + q * x.n + j)), lows), shifts);
        const __m128i a = _mm_unpacklo_epi8(r[0], r[1]), b = _mm_unpackhi_epi8(r[0], r[1]);
        const __m128i c = _mm_unpacklo_epi8(r[2], r[3]), d = _mm_unpackhi_epi8(r[2], r[3]);
        __m128i* const at = (__m128i*)(line + 4 * j);
        _mm_storeu_si128(at, _mm_unpacklo_epi16(a, c));
        _mm_storeu_si128(at + 1, _mm_unpackhi_epi16(a, c));
        _mm_storeu_si128(at + 2, _mm_unpacklo_epi16(b, d));
        _mm_storeu_si128(at + 3, _mm_unpackhi_epi16(b, d));
      }
    }
#endif
    for (; j < count; ++j)
      for (int64_t q = 0; q < rows; ++q) line[4 * j + q] = (uint8_t)((uint8_t)(from[q * x.n + j] - low) >> shift);
    for (int64_t panel = 0; panel < panels; ++panel) std::memcpy(to + (panel * depth + quad) * width * 4, line + panel * width * 4, width * 4);
  }
}

// A gradient code that a panel does without: sums in 16 bits would overflow with it.
struct Excess {
  int32_t quad;
  int8_t index, byte, code;
};

// A panel of gradient codes: whether pairs of pairs fit into 16 bits, and which codes were taken out for that.
struct Panel {
  bool pairs = true;
  std::vector<Excess> taken;
};

// Whether anywhere two neighbours of `first` and those of `second` have magnitudes that add up to more than `limit`. `bytes`: divisible by 4.
inline bool exceeds(const uint8_t* first, const uint8_t* second, int bytes, int limit) {
  int at = 0;
#if defined(__SSSE3__)
  const __m128i ones = _mm_set1_epi8(1), limits = _mm_set1_epi16((int16_t)limit);
  const auto sums = [&](__m128i a, __m128i b) {
    return _mm_add_epi16(_mm_maddubs_epi16(_mm_abs_epi8(a), ones), _mm_maddubs_epi16(_mm_abs_epi8(b), ones));
  };
  __m128i over = _mm_setzero_si128();
  for (; at + 16 <= bytes; at += 16)
    over = _mm_or_si128(over, _mm_cmpgt_epi16(sums(_mm_loadu_si128((const __m128i*)(first + at)), _mm_loadu_si128((const __m128i*)(second + at))), limits));
  for (; at + 8 <= bytes; at += 8)
    over = _mm_or_si128(over, _mm_cmpgt_epi16(sums(_mm_loadl_epi64((const __m128i*)(first + at)), _mm_loadl_epi64((const __m128i*)(second + at))), limits));
  if (_mm_movemask_epi8(over)) return true;
#endif
  for (; at < bytes; at += 2)
    if (std::abs((int8_t)first[at]) + std::abs((int8_t)first[at + 1]) + std::abs((int8_t)second[at]) + std::abs((int8_t)second[at + 1]) > limit) return true;
  return false;
}

// Takes codes out of a packed panel of gradients until no four that are added in 16 bits (two neighbours of a quadruple, and those of the
// next) have magnitudes that add up to more than `limit`. Where that takes too many, it leaves the panel as it was, for sums of two.
inline void take_excess(uint8_t* panel, int width, int64_t depth, int limit, Panel& result) {
  result.pairs = true;
  result.taken.clear();
  const size_t most = depth * width / 32;  // each costs a row of the tile; sums of two cost half as much again for all
  const auto put_back = [&] {
    for (const Excess& e : result.taken) panel[(e.quad * width + e.index) * 4 + e.byte] = (uint8_t)e.code;
    result.pairs = false;
    result.taken.clear();
  };
  for (int64_t quad = 0; quad < depth; quad += 2) {
    uint8_t *const first = panel + quad * width * 4, *const second = first + width * 4;
    if (!exceeds(first, second, 4 * width, limit)) continue;
    for (int at = 0; at < 4 * width; at += 2) {
      uint8_t* const four[] = {first + at, first + at + 1, second + at, second + at + 1};
      int sum = 0;
      for (const uint8_t* code : four) sum += std::abs((int8_t)*code);
      for (int i = 0; i < 4 && sum > limit; ++i) {
        if (*four[i] == 0) continue;
        if (result.taken.size() == most) return put_back();
        const int place = at + i % 2;
        result.taken.push_back({(int32_t)quad + i / 2, (int8_t)(place / 4), (int8_t)(place % 4), (int8_t)*four[i]});
        sum -= std::abs((int8_t)*four[i]);
        *four[i] = 0;
      }
    }
  }
}

// Sums of the codes along the contracted axis, of indices n0 to n1.
inline void contracted_sums(const Operand& x, int64_t n0, int64_t n1, int32_t* sums) {
  std::fill(sums + n0, sums + n1, 0);
  if (x.contracted_first) {
    for (int64_t k = 0; k < x.k; ++k)
      for (int64_t n = n0; n < n1; ++n) sums[n] += x.codes[k * x.n + n];
  } else {
    for (int64_t n = n0; n < n1; ++n)
      for (int64_t k = 0; k < x.k; ++k) sums[n] += x.codes[n * x.k + k];
  }
}

// ---- the product

// `limit`: what the magnitudes of four gradient codes may add up to (see `limit_of_pairs`).
// parallel(count, cost, work) calls work(begin, end) on ranges that cover 0 to count, in any order, on any threads; `cost` in nanoseconds.
template <bool kUnsignedA, class Parallel, class Finish>
void product(const Operand& a, const Operand& b, const Range& range, int limit, Parallel&& parallel, Finish&& finish) {
  const int64_t rows = a.n, cols = b.n;
  const int64_t depths = (std::max<int64_t>(a.k, 1) + 7) / 8 * 2;  // quadruples, an even number
  const int64_t row_groups = (rows + kRowsPacked - 1) / kRowsPacked, col_groups = (cols + kColsPacked - 1) / kColsPacked;
  const int64_t deepest = std::min<int64_t>(depths, kBlock);
  const Bytes packed_a(row_groups * kRowsPacked * deepest * 4), packed_b(col_groups * kColsPacked * deepest * 4);
  std::unique_ptr<int32_t[]> sums(depths > kBlock ? new int32_t[rows * cols] : nullptr);
  const Operand& gradient_operand = kUnsignedA ? b : a;
  std::vector<int32_t> correction(range.low != 0 ? gradient_operand.n : 0);
  if (!correction.empty()) {
    constexpr int64_t kTogether = 128;
    parallel((gradient_operand.n + kTogether - 1) / kTogether, gradient_operand.k * kTogether / 10, [&](int64_t from, int64_t to) {
      contracted_sums(gradient_operand, from * kTogether, std::min(to * kTogether, gradient_operand.n), correction.data());
    });
  }
  const uint32_t offset = (uint32_t)(range.low >> range.shift);  // the sums are of code - low: low times the other's sum is missing
  constexpr int kGradientWidth = kUnsignedA ? kCols : kRows;
  std::vector<Panel> panels((kUnsignedA ? col_groups * kColsPacked : row_groups * kRowsPacked) / kGradientWidth);
  const bool all_fit = limit >= 4 * kGreatestGradientCode;
  for (int64_t start = 0; start < depths; start += kBlock) {
    const int64_t depth = std::min<int64_t>(kBlock, depths - start);
    const bool first = start == 0, last = start + depth == depths;
    const auto pack_panels = [&](const Operand& x, bool gradient, int width, int together, int64_t group, uint8_t* out) {
      const int64_t n0 = group * together, n1 = n0 + together;
      pack(x, gradient ? Range{} : range, width, 4 * start, depth, n0, n1, out);
      if (kAddsPairs && gradient && !all_fit)
        for (int64_t n = n0; n < n1; n += width) take_excess(out + n * depth * 4, width, depth, limit, panels[n / width]);
    };
    parallel(row_groups, depth * kRowsPacked / 2, [&](int64_t from, int64_t to) {
      for (int64_t at = from; at < to; ++at) pack_panels(a, !kUnsignedA, kRows, kRowsPacked, at, packed_a.get());
    });
    parallel(col_groups, depth * kColsPacked / 2, [&](int64_t from, int64_t to) {
      for (int64_t at = from; at < to; ++at) pack_panels(b, kUnsignedA, kCols, kColsPacked, at, packed_b.get());
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
            if (gradient.pairs)
              tile<kUnsignedA, true>(at_a, at_b, depth, sum);
            else
              tile<kUnsignedA, false>(at_a, at_b, depth, sum);
            for (const Excess& e : gradient.taken) {
              if (kUnsignedA)
                for (int i = 0; i < kRows; ++i) sum[i * kCols + e.index] += e.code * at_a[(e.quad * kRows + i) * 4 + e.byte];
              else
                for (int j = 0; j < kCols; ++j) sum[e.index * kCols + j] += e.code * at_b[(e.quad * kCols + j) * 4 + e.byte];
            }
            for (int64_t i = 0; i < std::min<int64_t>(kRows, end_row - row); ++i) {
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
              finish(m, n0, width, line);
            }
          }
        }
      }
    });
  }
}

// What the magnitudes of four gradient codes may add up to, so that the sum of their products with the other operand's unsigned bytes fits
// into 16 bits. Four of the greatest code where any four of these gradients do.
inline int limit_of_pairs(const Range& gradient, const Range& other) {
  const int unsigned_peak = std::max((other.high - other.low) >> other.shift, 1), limit = 32767 / unsigned_peak;
  return 4 * std::max(gradient.high, -gradient.low) <= limit ? 4 * kGreatestGradientCode : limit;
}

}  // namespace hgqc
