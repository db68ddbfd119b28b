// Elements that saturate, each with bits of its own, as weights mostly have: format, quantization and gradient in one loop, without arrays in
// between. The same float operations in the same order as in fixed.h, so the same bits.
#pragma once
#include "fixed.h"

namespace hgqc {
namespace alone {

// Variables of a quantizer from some element on.
struct Bits {
  const float *k, *i, *width;
};

// What Row has for an element.
struct Constants {
  float i, f, scale, step, high, low;
};

template <Rounding rounding, bool kbi, bool symmetric>
inline Constants constants(const Bits& bits, int64_t j) {
  Constants c;
  c.i = std::nearbyint(bits.i[j]);
  c.f = fraction(std::nearbyint(bits.width[j]), c.i, kbi);
  c.scale = factor<rounding>(power(c.f)), c.step = power(-c.f);
  ends_of<symmetric>(bits.k[j], c.i, c.f, c.step, &c.high, &c.low);
  return c;
}

template <Rounding rounding, bool kbi, bool symmetric>
inline void forward(const Bits& bits, const float* __restrict x, float* __restrict q, int64_t n) {
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    const Constants c = constants<rounding, kbi, symmetric>(bits, j);
    q[j] = rounded<rounding>(clipped(x[j], c.low, c.high), c.scale) * c.step;
  }
}

template <Rounding rounding, bool kbi, bool symmetric>
inline void backward(const Bits& bits, const float* __restrict g, const float* __restrict x, float* __restrict dx, float* __restrict d_i,
                     float* __restrict d_width, int64_t n) {
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    const Constants c = constants<rounding, kbi, symmetric>(bits, j);
    const float v = x[j], up = g[j];
    const bool is_above = v > c.high, is_below = v < c.low;
    const float y = clipped(v, c.low, c.high);
    const float inside = 0.0f + up * (y - rounded<rounding>(y, c.scale) * c.step);  // a sum of one
    const float above = is_above ? up : 0.0f, below = is_below ? up : 0.0f;
    dx[j] = is_above || is_below ? 0.0f : up;
    bits_gradient<kbi, symmetric>(bits.k[j], c.i, c.f, inside, above, below, &d_i[j], &d_width[j]);
  }
}

}  // namespace alone
}  // namespace hgqc
