// One tile of a product of bytes: kRows x kCols sums over `depth` quadruples of k, in the instructions of the processor.
//
// Processors multiply unsigned by signed bytes. VNNI adds the four products of a quadruple in 32 bits. AVX2 adds two neighbours in 16 bits, and
// has to widen them: half a multiplication for each. So up to kMostAdded quadruples are added in 16 bits first, where they fit (excess.h).
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace hgqc {

constexpr int kDepthStep = 4;  // depths are divisible by it, so that no tile has a rest; quadruples

#if defined(__AVX512VNNI__) && defined(__AVX512F__) && !defined(HGQC_PORTABLE)
constexpr int kRows = 12, kCols = 32;
constexpr int kMostAdded = 1;
constexpr const char* kInstructions = "AVX512-VNNI";
template <bool kUnsignedA, int kAdded>
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

#elif defined(__AVXVNNI__) && defined(__AVX2__) && !defined(HGQC_PORTABLE)
constexpr int kRows = 6, kCols = 16;  // sums enough to wait for: an instruction takes five cycles, and two start in each
constexpr int kMostAdded = 1;
constexpr const char* kInstructions = "AVX-VNNI";
template <bool kUnsignedA, int kAdded>
inline void tile(const uint8_t* a, const uint8_t* b, int64_t depth, int32_t* out) {
  __m256i sum[kRows][2];
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) sum[i][0] = sum[i][1] = _mm256_setzero_si256();
  for (int64_t k = 0; k < depth; ++k, a += kRows * 4, b += kCols * 4) {
    const __m256i b0 = _mm256_load_si256((const __m256i*)b), b1 = _mm256_load_si256((const __m256i*)(b + 32));
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) {
      int32_t word;
      std::memcpy(&word, a + 4 * i, 4);
      const __m256i v = _mm256_set1_epi32(word);
      sum[i][0] = kUnsignedA ? _mm256_dpbusd_avx_epi32(sum[i][0], v, b0) : _mm256_dpbusd_avx_epi32(sum[i][0], b0, v);
      sum[i][1] = kUnsignedA ? _mm256_dpbusd_avx_epi32(sum[i][1], v, b1) : _mm256_dpbusd_avx_epi32(sum[i][1], b1, v);
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) {
    _mm256_storeu_si256((__m256i*)(out + i * kCols), sum[i][0]);
    _mm256_storeu_si256((__m256i*)(out + i * kCols + 8), sum[i][1]);
  }
}

#elif defined(__AVX2__) && !defined(HGQC_PORTABLE)
constexpr int kRows = 3, kCols = 16;  // more sums than this, and they do not stay in the 16 registers
constexpr int kMostAdded = 4;
constexpr const char* kInstructions = "AVX2";
// Computes x here and keeps it in a register. Left alone the compiler makes trees of sums and loads operands again where it multiplies, for which
// there are neither registers nor loads enough: two thirds of the speed.
template <class T>
inline void in_order(T& x) {
#if defined(__GNUC__)
  asm volatile("" : "+x"(x));
#endif
}
template <bool kUnsignedA, int kAdded>
__attribute__((noinline, aligned(64)))  // by itself, and at the beginning of a cache line, the loop is a tenth faster
void tile(const uint8_t* a, const uint8_t* b, int64_t depth, int32_t* out) {
  static_assert(kDepthStep % kAdded == 0);
  alignas(32) static constexpr int16_t kOnes[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  __m256i sum[kRows][2];
#pragma GCC unroll 3
  for (int i = 0; i < kRows; ++i) sum[i][0] = sum[i][1] = _mm256_setzero_si256();
  for (int64_t k = 0; k < depth; k += kAdded, a += kAdded * kRows * 4, b += kAdded * kCols * 4) {
    __m256i added[kRows][2];
#pragma GCC unroll 4
    for (int s = 0; s < kAdded; ++s) {
      const __m256i* const column = (const __m256i*)(b + s * kCols * 4);
      __m256i columns[2] = {_mm256_load_si256(column), _mm256_load_si256(column + 1)};
      in_order(columns[0]);
      in_order(columns[1]);
#pragma GCC unroll 3
      for (int i = 0; i < kRows; ++i) {
        int32_t word;
        std::memcpy(&word, a + (s * kRows + i) * 4, 4);
        __m256i v = _mm256_set1_epi32(word);
        in_order(v);
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
          const __m256i two = kUnsignedA ? _mm256_maddubs_epi16(v, columns[j]) : _mm256_maddubs_epi16(columns[j], v);
          added[i][j] = s ? _mm256_add_epi16(added[i][j], two) : two;
          in_order(added[i][j]);
        }
      }
    }
    const __m256i* ones = (const __m256i*)kOnes;
#if defined(__GNUC__)
    asm volatile("" : "+r"(ones));  // read where it is used: there is no register for it
#endif
#pragma GCC unroll 3
    for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) sum[i][j] = _mm256_add_epi32(sum[i][j], _mm256_madd_epi16(added[i][j], *ones));
  }
#pragma GCC unroll 3
  for (int i = 0; i < kRows; ++i) {
    _mm256_storeu_si256((__m256i*)(out + i * kCols), sum[i][0]);
    _mm256_storeu_si256((__m256i*)(out + i * kCols + 8), sum[i][1]);
  }
}

#else
constexpr int kRows = 6, kCols = 16;
constexpr int kMostAdded = 1;
constexpr const char* kInstructions = "portable C++";
template <bool kUnsigned>
inline int32_t byte_of(uint32_t word, int number) {
  const uint32_t top = word << (24 - 8 * number);
  return kUnsigned ? (int32_t)(top >> 24) : (int32_t)top >> 24;
}
template <bool kUnsignedA, int kAdded>
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

}  // namespace hgqc
