// How operands of a product of bytes lie in memory: panels of a few rows or columns, in which four neighbours along k lie together.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>

#include "product_tile.h"

namespace hgqc {

constexpr int kBlock = 256;      // quadruples of k that are packed at a time: a panel of B stays in the first cache
constexpr int kRowsPacked = 96;  // rows of A that are packed at a time; a multiple of every kRows
constexpr int kColsPacked = 64;  // columns of B, in the same way
constexpr int kOverRead = 16;    // bytes behind a panel that may be read, not used

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

// Panels of kWidth indices of n, out[panel][quadruple][index][4], of the quadruples that begin at k0; zeros where the operand ends.
// Packs those that hold indices n0 to n1, a multiple of kWidth apart, of at most kRowsPacked.
template <int kWidth>
inline void pack(const Operand& x, const Range& range, int64_t k0, int64_t depth, int64_t n0, int64_t n1, uint8_t* out) {
  const uint8_t low = (uint8_t)range.low;
  const int shift = range.shift;
  const int64_t length = std::min<int64_t>(4 * depth, x.k - k0), count = std::min(n1, x.n) - n0, panels = (n1 - n0) / kWidth;
  uint8_t* const to = out + n0 * depth * 4;
  if (n0 + count < n1 || length < 4 * depth) std::memset(to, 0, (n1 - n0) * depth * 4);
  if (!x.contracted_first) {
    uint8_t line[4 * kBlock];
    for (int64_t j = 0; j < count; ++j) {
      const uint8_t* const from = (const uint8_t*)x.codes + (n0 + j) * x.k + k0;
      for (int64_t i = 0; i < length; ++i) line[i] = (uint8_t)((uint8_t)(from[i] - low) >> shift);
      std::memset(line + length, 0, -length & 3);
      uint8_t* const at = to + (j / kWidth * depth * kWidth + j % kWidth) * 4;
      for (int64_t quad = 0; 4 * quad < length; ++quad) std::memcpy(at + quad * kWidth * 4, line + 4 * quad, 4);
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
    for (int64_t panel = 0; panel < panels; ++panel) std::memcpy(to + (panel * depth + quad) * kWidth * 4, line + panel * kWidth * 4, kWidth * 4);
  }
}

// Adds the signed codes of a packed panel, along k, to sums[index].
template <int kWidth>
inline void add_sums(const uint8_t* panel, int64_t depth, int32_t* sums) {
#if defined(__SSSE3__)
  const __m128i one_bytes = _mm_set1_epi8(1), ones = _mm_set1_epi16(1);
  for (int at = 0; at < kWidth; at += 4) {
    __m128i total = _mm_setzero_si128();
    for (int64_t quad = 0; quad < depth; ++quad) {
      const __m128i codes = _mm_loadu_si128((const __m128i*)(panel + (quad * kWidth + at) * 4));
      total = _mm_add_epi32(total, _mm_madd_epi16(_mm_maddubs_epi16(one_bytes, codes), ones));
    }
    int32_t four[4];
    _mm_storeu_si128((__m128i*)four, total);
    for (int i = 0; i < std::min(4, kWidth - at); ++i) sums[at + i] += four[i];
  }
#else
  for (int64_t quad = 0; quad < depth; ++quad)
    for (int i = 0; i < kWidth; ++i)
      for (int byte = 0; byte < 4; ++byte) sums[i] += (int8_t)panel[(quad * kWidth + i) * 4 + byte];
#endif
}

}  // namespace hgqc
