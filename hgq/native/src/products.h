// Products of 8-bit integers with 32-bit sums: C[m, n] = scale * sum_k A[m, k] * B[k, n].
//
// One operand holds gradient codes, of magnitude up to 64; the other any int8. The latter is packed as unsigned bytes (its least code is
// subtracted, and what that adds is taken off the sums again), because that is what the processors multiply: unsigned by signed bytes. Four
// neighbours along k lie together. AVX2 adds products in pairs of 16 bits, which cannot overflow since 2 * 255 * 64 < 2^15; where the codes
// are small enough, two such pairs are added before they are widened, which is half again as fast. All variants give the same bits.
#pragma once
#include <algorithm>
#include <cstdint>
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
constexpr int kRows = 6, kCols = 16;
#if defined(__AVXVNNI__)
constexpr const char* kInstructions = "AVX-VNNI";
#else
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

// Sums of the codes along the contracted axis.
inline void contracted_sums(const Operand& x, int32_t* sums) {
  std::fill(sums, sums + x.n, 0);
  if (x.contracted_first) {
    for (int64_t k = 0; k < x.k; ++k)
      for (int64_t n = 0; n < x.n; ++n) sums[n] += x.codes[k * x.n + n];
  } else {
    for (int64_t n = 0; n < x.n; ++n)
      for (int64_t k = 0; k < x.k; ++k) sums[n] += x.codes[n * x.k + k];
  }
}

// ---- the product

// parallel(count, cost, work) calls work(begin, end) on ranges that cover 0 to count, in any order, on any threads; `cost` in nanoseconds.
template <bool kUnsignedA, class Parallel, class Finish>
void product(const Operand& a, const Operand& b, const Range& range, bool pairs, Parallel&& parallel, Finish&& finish) {
  const int64_t rows = a.n, cols = b.n;
  const int64_t depths = (std::max<int64_t>(a.k, 1) + 7) / 8 * 2;  // quadruples, an even number
  const int64_t row_groups = (rows + kRowsPacked - 1) / kRowsPacked, col_groups = (cols + kColsPacked - 1) / kColsPacked;
  const int64_t deepest = std::min<int64_t>(depths, kBlock);
  const Bytes packed_a(row_groups * kRowsPacked * deepest * 4), packed_b(col_groups * kColsPacked * deepest * 4);
  std::unique_ptr<int32_t[]> sums(depths > kBlock ? new int32_t[rows * cols] : nullptr);
  std::vector<int32_t> correction(range.low != 0 ? (kUnsignedA ? cols : rows) : 0);
  if (!correction.empty()) contracted_sums(kUnsignedA ? b : a, correction.data());
  const uint32_t offset = (uint32_t)(range.low >> range.shift);  // the sums are of code - low: low times the other's sum is missing
  for (int64_t start = 0; start < depths; start += kBlock) {
    const int64_t depth = std::min<int64_t>(kBlock, depths - start);
    const bool first = start == 0, last = start + depth == depths;
    parallel(row_groups, depth * kRowsPacked / 2, [&](int64_t from, int64_t to) {
      for (int64_t at = from; at < to; ++at)
        pack(a, kUnsignedA ? range : Range{}, kRows, 4 * start, depth, at * kRowsPacked, (at + 1) * kRowsPacked, packed_a.get());
    });
    parallel(col_groups, depth * kColsPacked / 2, [&](int64_t from, int64_t to) {
      for (int64_t at = from; at < to; ++at)
        pack(b, kUnsignedA ? Range{} : range, kCols, 4 * start, depth, at * kColsPacked, (at + 1) * kColsPacked, packed_b.get());
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
            if (pairs)
              tile<kUnsignedA, true>(at_a, at_b, depth, sum);
            else
              tile<kUnsignedA, false>(at_a, at_b, depth, sum);
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

// Greatest magnitude of the gradient codes, and what the other operand's codes have in common: whether pairs of pairs fit into 16 bits.
inline bool pairs_fit(const Range& gradient, const Range& other) {
  const int64_t signed_peak = std::max(gradient.high, -gradient.low), unsigned_peak = (other.high - other.low) >> other.shift;
  return 4 * unsigned_peak * signed_peak < 32768;
}

}  // namespace hgqc
