// Gradient quantizers, element by element: the same float operations in the same order as the TensorFlow references in hgq/gradients,
// so that results are equal bit for bit. The loops are written for the compiler's vectoriser: no calls, no branches.
// Compile with -ffp-contract=off (a fused multiply-add rounds once where the reference rounds twice) and without -ffast-math.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "random.h"

namespace hgqc {

inline int32_t bits_of(float x) {
  int32_t b;
  std::memcpy(&b, &x, 4);
  return b;
}
inline float float_of(int32_t b) {
  float x;
  std::memcpy(&x, &b, 4);
  return x;
}

// Greatest magnitude, as a bit pattern; patterns of magnitudes are ordered as the numbers are, and NaN is above all.
inline int32_t peak_pattern(const float* __restrict x, int64_t n) {
  int32_t peak = 0;
  for (int64_t i = 0; i < n; ++i) peak = std::max(peak, bits_of(x[i]) & 0x7FFFFFFF);
  return peak;
}

// sign(g) * magnitude; +0 for both zeros, NaN where g is no finite number.
inline float with_sign_of(float g, float magnitude) {
  const float negative = g < 0.0f ? -magnitude : magnitude;
  return g - g == 0.0f ? negative : std::numeric_limits<float>::quiet_NaN();
}

// A scale that one can divide by; NaN if it is not finite. See hgq/gradients/powers.py.
inline float usable(float scale) {
  const float infinity = std::numeric_limits<float>::infinity();
  return scale < infinity ? (scale > 0x1p-126f ? scale : 0x1p-126f) : std::numeric_limits<float>::quiet_NaN();
}

// ---- LUQ

// alpha: the least level. See LUQ in hgq/gradients/luq.py.
inline float luq_alpha(float peak, int levels) { return usable(peak * std::ldexp(1.0f, 1 - levels)); }

// The level, in units of alpha, that |g| is rounded to; y = |g| / alpha.
inline float luq_level(float y, float dice, float top) {
  const float power = float_of(bits_of(y) & 0x7F800000);
  const float above = float_of((bits_of(y) & 0x007FFFFF) | 0x3F800000) - 1.0f;  // (y - power) / power, exactly
  const bool under = y < 1.0f;
  const float low = under ? 0.0f : power, gap = under ? 1.0f : power, rest = under ? y : above;
  const float q = low + gap * (dice < rest ? 1.0f : 0.0f);
  return std::min(q, top);  // NaN stays
}

// Elements begin to end of a tensor that share alpha. `starts`: where the streams of the samples start. With one sample `out` may be `g`.
inline void luq(const float* g, float* out, int64_t begin, int64_t end, float alpha, float top,
                const uint32_t* starts, int samples) {
  if (samples == 1) {
    const uint32_t start = starts[0];
    uint32_t place = place_of(start, begin);
#pragma GCC ivdep
    for (int64_t i = begin; i < end; ++i, place += kGolden)
      out[i] = with_sign_of(g[i], luq_level(std::fabs(g[i]) / alpha, uniform_at(place), top) * alpha);
    return;
  }
  const float share = (float)(1.0 / samples);
  for (int s = 0; s < samples; ++s) {
    const uint32_t start = starts[s];
    uint32_t place = place_of(start, begin);
#pragma GCC ivdep
    for (int64_t i = begin; i < end; ++i, place += kGolden) {
      const float q = with_sign_of(g[i], luq_level(std::fabs(g[i]) / alpha, uniform_at(place), top) * alpha);
      const float total = s == 0 ? q : out[i] + q;
      out[i] = s + 1 == samples ? total * share : total;
    }
  }
}

// The same as integer codes of alpha; top at most 64. NaN has no code: the caller makes the scale NaN.
inline void luq_codes(const float* __restrict g, int8_t* __restrict out, int64_t begin, int64_t end, float alpha, float top, uint32_t start) {
  uint32_t place = place_of(start, begin);
  for (int64_t i = begin; i < end; ++i, place += kGolden) {
    const int32_t level = (int32_t)luq_level(std::fabs(g[i]) / alpha, uniform_at(place), top);
    out[i] = (int8_t)(g[i] < 0.0f ? -level : level);
  }
}

// ---- integers of a common scale

// The unit in which `peak` is 2^(bits-1) - 1.
inline float integer_scale(float peak, int bits) { return usable(peak * (float)(1.0 / (std::ldexp(1.0, bits - 1) - 1.0))); }

// The code of y = x / scale, before it is clipped: at random (start of a stream) or to the nearest, halves to even.
inline float integer_code(float y, float dice, float highest) {
  const float whole = std::floor(y);
  const float code = whole + (dice < y - whole ? 1.0f : 0.0f);
  return std::max(std::min(code, highest), -highest);
}
inline float nearest_code(float y, float highest) { return std::max(std::min(std::nearbyint(y), highest), -highest); }

// `out` may be `g`.
inline void integers(const float* g, float* out, int64_t begin, int64_t end, float scale, float highest,
                     uint32_t start, bool stochastic) {
  if (stochastic) {
    uint32_t place = place_of(start, begin);
#pragma GCC ivdep
    for (int64_t i = begin; i < end; ++i, place += kGolden) out[i] = integer_code(g[i] / scale, uniform_at(place), highest) * scale;
  } else {
#pragma GCC ivdep
    for (int64_t i = begin; i < end; ++i) out[i] = nearest_code(g[i] / scale, highest) * scale;
  }
}

inline void integer_codes(const float* __restrict g, int8_t* __restrict out, int64_t begin, int64_t end, float scale, float highest,
                          uint32_t start, bool stochastic) {
  if (stochastic) {
    uint32_t place = place_of(start, begin);
    for (int64_t i = begin; i < end; ++i, place += kGolden) out[i] = (int8_t)(int32_t)integer_code(g[i] / scale, uniform_at(place), highest);
  } else {
    for (int64_t i = begin; i < end; ++i) out[i] = (int8_t)(int32_t)nearest_code(g[i] / scale, highest);
  }
}

// The least power of two of which `peak`, positive and finite, is at most 2^(bits-1) - 1. See power_for in hgq/gradients/powers.py.
inline float power_for(float peak, int bits) {
  const int32_t limit = 0x800000 - (0x800000 >> (bits - 2));  // the mantissa of 2^(bits-1) - 1
  const int32_t up = (bits_of(peak) + (0x7FFFFF - limit)) & 0x7F800000;
  const int32_t exponent = std::max((up >> 23) - (bits - 2), 1);
  return float_of(exponent << 23);
}

}  // namespace hgqc
