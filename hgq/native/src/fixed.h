// The fixed-point fake-quantizer, element by element: the same float operations in the same order as the TensorFlow reference in
// hgq/quantizers/ops.py and ranges.py, so that results are equal bit for bit. Loops without calls and branches, for the vectoriser.
//
// Data of `groups * n` elements is n rows of groups; a row's element j has the format of group j: bits are shared over leading axes.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "numbers.h"
#include "quantize.h"

namespace hgqc {

enum Rounding { kRound = 0, kRoundEven = 1, kTruncate = 2 };            // RND, RND_CONV, TRN
enum Overflow { kOnlyRound = 0, kWrap = 1, kMirror = 2, kSaturate = 3, kSymmetric = 4 };  // none, WRAP, WRAP_SM, SAT, SAT_SYM

constexpr float kSignificant = 24.0f;  // ops.SIGNIFICANT
constexpr float kHighest = 60.0f;      // ranges.HIGHEST
constexpr float kLn2 = 0.6931471805599453f;

inline float power(float n) { return float_of((int32_t)((n + 127.0f) * 8388608.0f)); }

// Fewest integer bits of q: ops.integer_bits.
inline float integer_bits(float q) { return (float)(((bits_of(std::fabs(q)) - (q < 0.0f ? 1 : 0)) >> 23) - 126); }

// ops.significant_bits
inline float significant_bits(float q) {
  const int32_t significand = (bits_of(q) & 0x7FFFFF) | 0x800000;
  const float width = kSignificant + 1.0f - integer_bits((float)(significand & -significand));
  const float with_sign = width + (q < 0.0f && width > 1.0f ? 1.0f : 0.0f);
  return q == 0.0f ? 0.0f : with_sign;
}

// x * scale rounded; `twice` is scale + scale, and `scale` itself for the other roundings.
template <Rounding rounding>
inline float rounded(float x, float scale) {
  if (rounding == kRoundEven) return std::nearbyint(x * scale);
  if (rounding == kTruncate) return std::floor(x * scale);
  return std::ceil(std::floor(x * scale) * 0.5f);
}
template <Rounding rounding>
inline float factor(float scale) {
  return rounding == kRound ? scale + scale : scale;
}

inline float smaller(float a, float b) { return b < a ? b : a; }  // a if either is NaN
inline float larger(float a, float b) { return b > a ? b : a; }
// tf.clip_by_value; of two zeros, the one that its vector loops return.
inline float clipped(float x, float low, float high) {
  const float y = high <= x ? high : x;
  return low >= y ? low : y;
}

// How a quantizer's variables become formats.
struct Parameters {
  bool kbi;      // the trained width is b = i + f, not f
  bool follows;  // k and i are what the constants need
  Rounding rounding;
  Overflow overflow;
  float i_low, i_high;
};


template <Rounding rounding>
inline float grid(float x, float f) {
  return rounded<rounding>(x, factor<rounding>(power(f))) * power(-f);
}

// Sign and integer bits of a group whose least and greatest values are given: ranges.needed and FixedQuantizer._needed. `width` is rounded.
template <Rounding rounding>
inline void needed(float low, float high, float width, bool kbi, float i_low, float i_high, float* k, float* i) {
  float bits;
  if (kbi) {
    bits = std::max(larger(integer_bits(low), integer_bits(high)), -kHighest);
    const float f = width - bits;
    bits = std::max(bits, larger(integer_bits(grid<rounding>(low, f)), integer_bits(grid<rounding>(high, f))));
    *k = grid<rounding>(low, width - bits) < 0.0f ? 1.0f : 0.0f;
  } else {
    low = grid<rounding>(low, width);
    bits = larger(integer_bits(low), integer_bits(grid<rounding>(high, width)));
    *k = low < 0.0f ? 1.0f : 0.0f;
  }
  *i = std::max(std::min(bits, i_high), i_low);
}

// f of a rounded width and i: FixedQuantizer._kif.
inline float fraction(float width, float i, bool kbi) {
  const float f = kbi ? width - i : width;
  return f - std::max(i + f - kSignificant, 0.0f);
}

inline bool is_dead(float k, float i, float f, Overflow overflow) { return (overflow == kSymmetric ? i + f : k + i + f) <= 0.0f; }

// The ends of a format's range; `step` is 2^-f.
template <bool symmetric>
inline void ends_of(float k, float i, float f, float step, float* high, float* low) {
  const float end = power(std::max(i, -f)), top = end - step;
  *high = top;
  *low = -k * (symmetric ? top : (i + f < 0.0f ? 0.0f : end));
}

// Gradients of i and of the width, from the sums over elements inside of the range, above and below it.
template <bool kbi, bool symmetric>
inline void bits_gradient(float k, float i, float f, float inside, float above, float below, float* d_i, float* d_width) {
  const float lower = k * below, ends = above - lower;
  const float of_f = kLn2 * (inside + power(-f) * (symmetric ? ends : above));
  const float of_i = kLn2 * power(std::max(i, -f)) * ends;
  *d_width = of_f;
  *d_i = kbi ? of_i - of_f : of_i;
}

// function(kbi, symmetric) of what saturates, as constants.
template <class Function>
inline void with_kind(const Parameters& p, const Function& function) {
  using Yes = std::true_type;
  using No = std::false_type;
  const bool symmetric = p.overflow == kSymmetric;
  if (p.kbi)
    symmetric ? function(Yes(), Yes()) : function(Yes(), No());
  else
    symmetric ? function(No(), Yes()) : function(No(), No());
}

// ---- formats repeated to a row that vectorises ------------------------------------------------------------------------------------------

// A multiple of the groups that is worth a vector loop.
inline int64_t row_length(int64_t groups, int64_t count) {
  int64_t length = groups;
  while (length < 128 && length % 16 && length < count) length += groups;
  while (length < 128 && length < count) length *= 2;
  return length;
}


struct Formats {
  Numbers k, i, f;
  explicit Formats(int64_t groups) { k.resize(groups), i.resize(groups), f.resize(groups); }
};

// Variables, rounded.
template <bool kbi>
inline void formats_of(const float* __restrict k, const float* __restrict i, const float* __restrict width, int64_t n, float* __restrict made_k,
                       float* __restrict made_i, float* __restrict made_f) {
  for (int64_t j = 0; j < n; ++j) {
    made_k[j] = k[j], made_i[j] = std::nearbyint(i[j]);
    made_f[j] = fraction(std::nearbyint(width[j]), made_i[j], kbi);
  }
}

// Constants of the loops, one of each for every element of a row.
struct Row {
  int64_t length;
  Numbers scale, step, high, low, top, period, back, k, dead;

  Row(const Formats& formats, const Parameters& p, int64_t row) : length(row) {
    const int64_t groups = formats.f.size(), own = std::min(groups, length);
    const float *const fk = formats.k.data(), *const fi = formats.i.data(), *const ff = formats.f.data();
    scale.resize(length), step.resize(length);
    if (p.rounding == kRound)
      scales<kRound>(ff, own, scale.data(), step.data());
    else
      scales<kTruncate>(ff, own, scale.data(), step.data());
    if (p.overflow >= kSaturate) {
      high.resize(length), low.resize(length);
      if (p.overflow == kSymmetric)
        ends<kSymmetric>(fk, fi, ff, step.data(), own, high.data(), low.data());
      else
        ends<kSaturate>(fk, fi, ff, step.data(), own, high.data(), low.data());
    }
    if (p.overflow == kWrap || p.overflow == kMirror) {
      for (auto* part : {&top, &period, &back, &k, &dead}) part->resize(length);
      for (int64_t j = 0; j < own; ++j) {
        const float n = fi[j] + ff[j], turn = n + fk[j] + (p.overflow == kMirror ? 1.0f : 0.0f);
        top[j] = power(n), period[j] = power(turn), back[j] = power(-turn), k[j] = fk[j];
        dead[j] = is_dead(fk[j], fi[j], ff[j], p.overflow) ? 0.0f : 1.0f;
      }
    }
    for (auto* part : {&scale, &step, &high, &low, &top, &period, &back, &k, &dead})
      for (int64_t j = groups; j < part->size(); ++j) (*part)[j] = (*part)[j - groups];
  }

 private:
  template <Rounding rounding>
  static void scales(const float* __restrict f, int64_t n, float* __restrict scale, float* __restrict step) {
    for (int64_t j = 0; j < n; ++j) scale[j] = factor<rounding>(power(f[j])), step[j] = power(-f[j]);
  }
  template <Overflow overflow>
  static void ends(const float* __restrict k, const float* __restrict i, const float* __restrict f, const float* __restrict step, int64_t n,
                   float* __restrict high, float* __restrict low) {
    for (int64_t j = 0; j < n; ++j) ends_of<overflow == kSymmetric>(k[j], i[j], f[j], step[j], &high[j], &low[j]);
  }
};

// ---- forward ----------------------------------------------------------------------------------------------------------------------------

// Elements begin to end, begin at the start of a row. `q` may be `x`.
template <Rounding rounding>
inline void round_forward(const float* x, float* q, int64_t begin, int64_t end, const Row& row) {
  const float *const scale = row.scale.data(), *const step = row.step.data();
  for (int64_t at = begin; at < end; at += row.length) {
    const int64_t n = std::min(row.length, end - at);
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) q[at + j] = rounded<rounding>(x[at + j], scale[j]) * step[j];
  }
}

// The same, and the ends of each element's range; `low` and `high` hold them so far.
template <Rounding rounding>
inline void round_and_range(const float* __restrict x, float* __restrict q, int64_t begin, int64_t end, const Row& row, float* __restrict low,
                            float* __restrict high) {
  const float *const scale = row.scale.data(), *const step = row.step.data();
  for (int64_t at = begin; at < end; at += row.length) {
    const int64_t n = std::min(row.length, end - at);
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) {
      const float v = x[at + j];
      q[at + j] = rounded<rounding>(v, scale[j]) * step[j];
      low[j] = v < low[j] || v != v ? v : low[j];
      high[j] = v > high[j] || v != v ? v : high[j];
    }
  }
}

inline void range(const float* __restrict x, int64_t begin, int64_t end, int64_t length, float* __restrict low, float* __restrict high) {
  for (int64_t at = begin; at < end; at += length) {
    const int64_t n = std::min(length, end - at);
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) {
      const float v = x[at + j];
      low[j] = v < low[j] || v != v ? v : low[j];
      high[j] = v > high[j] || v != v ? v : high[j];
    }
  }
}

template <Rounding rounding>
inline void saturate_forward(const float* x, float* q, int64_t begin, int64_t end, const Row& row) {
  const float *const scale = row.scale.data(), *const step = row.step.data(), *const high = row.high.data(), *const low = row.low.data();
  for (int64_t at = begin; at < end; at += row.length) {
    const int64_t n = std::min(row.length, end - at);
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) q[at + j] = rounded<rounding>(clipped(x[at + j], low[j], high[j]), scale[j]) * step[j];
  }
}

// ops._wrap of integers
template <Rounding rounding, bool mirror>
inline void wrap_forward(const float* x, float* q, int64_t begin, int64_t end, const Row& row) {
  for (int64_t at = begin; at < end; at += row.length) {
    const int64_t n = std::min(row.length, end - at);
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) {
      const float u = rounded<rounding>(x[at + j], row.scale[j]), top = row.top[j], k = row.k[j];
      const float turns = u * row.back[j], whole = std::floor(turns), nearer = turns - whole >= 0.5f ? 1.0f : 0.0f;
      float y = u - row.period[j] * (whole + (mirror ? nearer : k * nearer));
      if (mirror) {
        const float folded = larger(smaller(y, 2.0f * top - y - 1.0f), -2.0f * top - y - 1.0f), raised = larger(y, -1.0f - y);
        y = k > 0.0f ? folded : raised;
      }
      q[at + j] = row.dead[j] == 0.0f ? 0.0f : y * row.step[j];
    }
  }
}

template <Rounding rounding>
inline void forward(const float* x, float* q, int64_t begin, int64_t end, const Row& row, Overflow overflow) {
  switch (overflow) {
    case kOnlyRound: return round_forward<rounding>(x, q, begin, end, row);
    case kWrap: return wrap_forward<rounding, false>(x, q, begin, end, row);
    case kMirror: return wrap_forward<rounding, true>(x, q, begin, end, row);
    default: return saturate_forward<rounding>(x, q, begin, end, row);
  }
}

// ---- backward ---------------------------------------------------------------------------------------------------------------------------

// d[j] += upstream (x - q); q is computed anew.
template <Rounding rounding>
inline void round_backward(const float* __restrict g, const float* __restrict x, int64_t begin, int64_t end, const Row& row,
                           float* __restrict d) {
  const float *const scale = row.scale.data(), *const step = row.step.data();
  for (int64_t at = begin; at < end; at += row.length) {
    const int64_t n = std::min(row.length, end - at);
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) d[j] += g[at + j] * (x[at + j] - rounded<rounding>(x[at + j], scale[j]) * step[j]);
  }
}

// The same of what saturates; and the sums of what lies above and below, and the gradient of x. `dx` may be `g`.
template <Rounding rounding>
inline void saturate_backward(const float* g, const float* x, float* dx, int64_t begin, int64_t end, const Row& row, float* __restrict d,
                              float* __restrict d_above, float* __restrict d_below) {
  const float *const scale = row.scale.data(), *const step = row.step.data(), *const high = row.high.data(), *const low = row.low.data();
  for (int64_t at = begin; at < end; at += row.length) {
    const int64_t n = std::min(row.length, end - at);
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) {
      const float v = x[at + j], up = g[at + j];
      const bool above = v > high[j], below = v < low[j];
      const float y = clipped(v, low[j], high[j]);
      d[j] += up * (y - rounded<rounding>(y, scale[j]) * step[j]);
      d_above[j] += above ? up : 0.0f;
      d_below[j] += below ? up : 0.0f;
      dx[at + j] = above || below ? 0.0f : up;
    }
  }
}

inline void bits_backward(const Formats& formats, const Parameters& p, const float* __restrict inside, const float* __restrict above,
                          const float* __restrict below, int64_t n, float* __restrict d_i, float* __restrict d_width) {
  const float *const __restrict k = formats.k.data(), *const __restrict i = formats.i.data(), *const __restrict f = formats.f.data();
  with_kind(p, [=](auto kbi, auto symmetric) {
    for (int64_t j = 0; j < n; ++j)
      bits_gradient<kbi.value, symmetric.value>(k[j], i[j], f[j], inside[j], above[j], below[j], &d_i[j], &d_width[j]);
  });
}

}  // namespace hgqc
