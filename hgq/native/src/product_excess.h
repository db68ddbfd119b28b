// Where sums of 16 bits would overflow: gradient codes that are taken out of a product and added afterwards.
//
// The other operand's bytes are unsigned. So the products of positive gradient codes add up to their sum times the greatest byte at most, those
// of the negative ones likewise, and a sum of both lies between: it fits if each of the two does. What overflows on the way comes back.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "product_packing.h"

namespace hgqc {

constexpr int kGreatestGradientCode = 64;

// A gradient code that a panel does without.
struct Excess {
  int32_t quad;
  int8_t index, byte, code;
};

// A panel of gradient codes: how many quadruples can be added in 16 bits, and which codes were taken out for that.
struct Panel {
  int added = kMostAdded;
  std::vector<Excess> taken;
};

// For each pair of bytes of up to 16, whether the codes of one sign, in this pair of `added` quadruples, add up to more than `limit`: a bit a byte.
template <int kWidth, int kAdded>
inline int excessive(const uint8_t* group, int limit) {
#if defined(__SSSE3__)
  const __m128i ones = _mm_set1_epi8(1);
  __m128i sums = _mm_setzero_si128(), magnitudes = sums;
#pragma GCC unroll 4
  for (int s = 0; s < kAdded; ++s) {
    const __m128i codes = _mm_loadu_si128((const __m128i*)(group + s * kWidth * 4));
    sums = _mm_add_epi16(sums, _mm_maddubs_epi16(ones, codes));
    magnitudes = _mm_add_epi16(magnitudes, _mm_maddubs_epi16(_mm_abs_epi8(codes), ones));
  }  // what is positive and what is negative: (magnitudes +- sums) / 2
  return _mm_movemask_epi8(_mm_cmpgt_epi16(_mm_add_epi16(magnitudes, _mm_abs_epi16(sums)), _mm_set1_epi16((int16_t)(2 * limit))));
#else
  int found = 0;
  for (int at = 0; at < 16; at += 2) {
    int of_sign[2] = {0, 0};
    for (int s = 0; s < kAdded; ++s)
      for (int byte = at; byte < at + 2; ++byte) {
        const int code = (int8_t)group[s * kWidth * 4 + byte];
        of_sign[code < 0] += std::abs(code);
      }
    if (std::max(of_sign[0], of_sign[1]) > limit) found |= 3 << at;
  }
  return found;
#endif
}

// Takes codes out of a packed panel of gradients, the greatest first, until in each pair of bytes of kAdded quadruples those of one sign add up
// to no more than `limit`. Where that takes too many, it leaves the panel as it was and says so.
template <int kWidth, int kAdded>
inline bool take_excess(uint8_t* panel, int64_t depth, int limit, std::vector<Excess>& taken) {
  const size_t most = depth * kWidth / 64;  // each costs a row of the tile; adding half as many costs an eighth more for all
  taken.clear();
  for (int64_t quad = 0; quad < depth; quad += kAdded) {
    for (int part = 0; part < 4 * kWidth; part += 16) {
      uint8_t* const group = panel + quad * kWidth * 4 + part;
      const int bytes = std::min(16, 4 * kWidth - part);
      int found = excessive<kWidth, kAdded>(group, limit) & ((1 << bytes) - 1);
      while (found) {
        const int at = __builtin_ctz(found);
        found &= ~(3 << at);
        for (int sign = -1; sign <= 1; sign += 2) {
          for (;;) {
            int sum = 0, greatest = 0, where = 0;
            for (int n = 0; n < 2 * kAdded; ++n) {
              const int byte = n / 2 * kWidth * 4 + at + n % 2, code = sign * (int8_t)group[byte];
              sum += std::max(code, 0);
              if (code > greatest) greatest = code, where = n;
            }
            if (sum <= limit) break;
            if (taken.size() == most) {
              for (const Excess& e : taken) panel[(e.quad * kWidth + e.index) * 4 + e.byte] = (uint8_t)e.code;
              taken.clear();
              return false;
            }
            const int byte = part + at + where % 2;
            taken.push_back({(int32_t)quad + where / 2, (int8_t)(byte / 4), (int8_t)(byte % 4), (int8_t)(sign * greatest)});
            group[where / 2 * kWidth * 4 + at + where % 2] = 0;
          }
        }
      }
    }
  }
  return true;
}

// As many quadruples as can be added in 16 bits without taking out too many codes.
template <int kWidth>
inline void prepare(uint8_t* codes, int64_t depth, int limit, Panel& panel) {
  panel.added = kMostAdded;
  if (limit >= 2 * kMostAdded * kGreatestGradientCode) return;
  if constexpr (kMostAdded >= 4) {
    if (take_excess<kWidth, 4>(codes, depth, limit, panel.taken)) return;
  }
  if constexpr (kMostAdded >= 2) {
    panel.added = 2;
    if (take_excess<kWidth, 2>(codes, depth, limit, panel.taken)) return;
  }
  panel.added = 1;
}

}  // namespace hgqc
