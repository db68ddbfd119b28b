// The ops of the fixed-point fake-quantizer: shapes and formats. What they compute is in fixed.h, how it is shared out in blocks.h.
#pragma once
#include "blocks.h"
#include "fixed.h"
#include "fixed_alone.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace hgqc {
namespace fixed {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::errors::InvalidArgument;
using tensorflow::shape_inference::InferenceContext;

constexpr int64_t kPart = 2048;  // elements, each with bits of its own

inline bool fits(const Tensor& x, const Tensor& bits) {
  const int64_t groups = bits.NumElements();
  if (groups < 1 || x.NumElements() % groups) return false;
  int64_t seen = 1;  // the last axes of x are those of the bits
  for (int axis = 0; axis < x.dims() && seen < groups; ++axis) seen *= x.dim_size(x.dims() - 1 - axis);
  return seen == groups || x.NumElements() == 0;
}

// What all of them have in common: attributes, and formats from the variables.
class FixedOp : public OpKernel, public Direct {
 public:
  explicit FixedOp(OpKernelConstruction* context) : OpKernel(context) {
    int rounding, overflow;
    OP_REQUIRES_OK(context, context->GetAttr("kbi", &p_.kbi));
    OP_REQUIRES_OK(context, context->GetAttr("follows", &p_.follows));
    OP_REQUIRES_OK(context, context->GetAttr("rounding", &rounding));
    OP_REQUIRES_OK(context, context->GetAttr("overflow", &overflow));
    OP_REQUIRES_OK(context, context->GetAttr("i_low", &p_.i_low));
    OP_REQUIRES_OK(context, context->GetAttr("i_high", &p_.i_high));
    OP_REQUIRES(context, rounding >= 0 && rounding <= 2 && overflow >= 0 && overflow <= 4, InvalidArgument("no such rounding or overflow"));
    p_.rounding = (Rounding)rounding;
    p_.overflow = (Overflow)overflow;
  }

 protected:
  Parameters p_;

  template <class Function>
  void with_rounding(const Function& function) const {
    switch (p_.rounding) {
      case kRound: return function(std::integral_constant<Rounding, kRound>());
      case kRoundEven: return function(std::integral_constant<Rounding, kRoundEven>());
      default: return function(std::integral_constant<Rounding, kTruncate>());
    }
  }

  // Whether elements have bits of their own, and saturate.
  bool are_alone(int64_t count, int64_t groups) const { return count == groups && !p_.follows && p_.overflow >= kSaturate; }
  alone::Bits bits(const Call& call, int first, int64_t begin) const {
    return {call.in(first) + begin, call.in(first + 1) + begin, call.in(first + 2) + begin};
  }
  void quantize_alone(const Call& call, int first, const float* x, float* q, int64_t begin, int64_t count) const {
    with_rounding([&](auto rounding) {
      with_kind(p_, [&](auto kbi, auto symmetric) {
        alone::forward<rounding.value, kbi.value, symmetric.value>(bits(call, first, begin), x, q, count);
      });
    });
  }

  // Elements of `count` and the groups of their bits, in parts that stay in the cache where no element shares its bits: then the formats of
  // all would be many times the data. work(begin, count, groups)
  template <class Work>
  static void parts(int64_t count, int64_t groups, const Work& work) {
    if (count != groups || count <= kPart) return work(0, count, groups);
    for (int64_t begin = 0; begin < count; begin += kPart) {
      const int64_t length = std::min(kPart, count - begin);
      work(begin, length, length);
    }
  }

  // Formats of inputs k, i, width from element `begin` on, the first of them at `first`; `x` for those that follow it, of `blocks`.
  Formats formats(const Call& call, int first, const float* x, const Blocks& blocks, int64_t begin, int64_t groups) const {
    const float *const k = call.in(first) + begin, *const i = call.in(first + 1) + begin, *const width = call.in(first + 2) + begin;
    Formats made(groups);
    if (p_.follows) {
      Numbers low, high;
      ends(call.threads, x, blocks, groups, &low, &high);
      with_rounding([&](auto rounding) {
        for (int64_t j = 0; j < groups; ++j)
          needed<rounding.value>(low[j], high[j], std::nearbyint(width[j]), p_.kbi, p_.i_low, p_.i_high, &made.k[j], &made.i[j]);
      });
      for (int64_t j = 0; j < groups; ++j) made.f[j] = fraction(std::nearbyint(width[j]), made.i[j], p_.kbi);
    } else {
      (p_.kbi ? formats_of<true> : formats_of<false>)(k, i, width, groups, made.k.data(), made.i.data(), made.f.data());
    }
    return made;
  }

  static void ends(Threads* threads, const float* at, const Blocks& blocks, int64_t groups, Numbers* low,
                   Numbers* high) {
    const float infinity = std::numeric_limits<float>::infinity();
    if (blocks.count == groups) {  // nothing is shared
      low->resize(groups), high->resize(groups);
      std::copy(at, at + groups, low->data());
      std::copy(at, at + groups, high->data());
      return;
    }
    Partial least(blocks, infinity), greatest(blocks, -infinity);
    blocks.run(threads, 0.3, [&](int64_t block, int64_t begin, int64_t end) {
      range(at, begin, end, blocks.row, least.of(block), greatest.of(block));
    });
    fold(least, greatest, groups, low, high);
  }
  static void fold(const Partial& least, const Partial& greatest, int64_t groups, Numbers* low, Numbers* high) {
    const float infinity = std::numeric_limits<float>::infinity();
    low->resize(groups), high->resize(groups);
    low->fill(infinity), high->fill(-infinity);
    least.fold(groups, low->data(), [](float a, float b) { return a < b; });
    greatest.fold(groups, high->data(), [](float a, float b) { return a > b; });
  }

  bool check(OpKernelContext* context, int x, int first) const {
    const int64_t groups = context->input(first + 2).NumElements();
    if (!fits(context->input(x), context->input(first + 2)) ||
        (!p_.follows && (context->input(first).NumElements() != groups || context->input(first + 1).NumElements() != groups))) {
      context->SetStatus(InvalidArgument("bits ", context->input(first + 2).shape().DebugString(), " do not fit data ",
                                         context->input(x).shape().DebugString()));
      return false;
    }
    return true;
  }
};

#define HGQC_FIXED_BITS Input("k: float").Input("i: float").Input("width: float")
#define HGQC_FIXED_ATTRIBUTES \
  Attr("kbi: bool").Attr("follows: bool").Attr("rounding: int").Attr("overflow: int").Attr("i_low: float").Attr("i_high: float")

REGISTER_OP("HgqcFixed")
    .Input("x: float")
    .HGQC_FIXED_BITS
    .Output("quantized: float")
    .HGQC_FIXED_ATTRIBUTES.SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->input(0));
      return tensorflow::Status();
    });

class QuantizeOp : public FixedOp {
 public:
  using FixedOp::FixedOp;
  void Compute(OpKernelContext* context) override {
    if (check(context, 0, 1)) compute(context, *this, {context->input(0).shape()});
  }
  void call(const Call& call) const override {
    parts(call.size(0), call.size(3), [&](int64_t first, int64_t count, int64_t groups) {
      const float* const from = call.in(0) + first;
      float* const to = call.out(0) + first;
      if (are_alone(count, groups)) return quantize_alone(call, 1, from, to, first, count);
      const Blocks blocks(count, groups);
      const Row row(formats(call, 1, from, blocks, first, groups), p_, blocks.row);
      with_rounding([&](auto rounding) {
        blocks.run(call.threads, 0.5, [&](int64_t, int64_t begin, int64_t end) { forward<rounding.value>(from, to, begin, end, row, p_.overflow); });
      });
    });
  }
};
REGISTER_KERNEL_BUILDER(Name("HgqcFixed").Device(tensorflow::DEVICE_CPU), QuantizeOp);

REGISTER_OP("HgqcFixedTracked")
    .Input("x: float")
    .HGQC_FIXED_BITS
    .Input("seen: float")
    .Output("quantized: float")
    .Output("new_k: float")
    .Output("new_i: float")
    .Attr("decay: float")
    .HGQC_FIXED_ATTRIBUTES.SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->input(0));
      c->set_output(1, c->input(3));
      c->set_output(2, c->input(3));
      return tensorflow::Status();
    });

// A training call of tracked data: the range is moved to where it covers the data, which is only rounded. One pass where f is given.
class TrackedOp : public FixedOp {
 public:
  explicit TrackedOp(OpKernelConstruction* context) : FixedOp(context) { OP_REQUIRES_OK(context, context->GetAttr("decay", &decay_)); }
  void Compute(OpKernelContext* context) override {
    if (!check(context, 0, 1)) return;
    OP_REQUIRES(context, context->input(4).NumElements() == 1, InvalidArgument("seen is not one number"));
    const TensorShape& width = context->input(3).shape();
    compute(context, *this, {context->input(0).shape(), width, width});
  }
  void call(const Call& call) const override {
    const int64_t groups = call.size(3);
    const Blocks blocks(call.size(0), groups);
    const float *const from = call.in(0), *const k = call.in(1), *const i = call.in(2), *const w = call.in(3);
    float *const to = call.out(0), *const k_out = call.out(1), *const i_out = call.out(2);
    const float seen = call.in(4)[0];
    Numbers low, high;
    Formats made(groups);
    with_rounding([&](auto rounding) {
      constexpr Rounding how = rounding.value;
      if (p_.kbi) {
        ends(call.threads, from, blocks, groups, &low, &high);
      } else {
        for (int64_t j = 0; j < groups; ++j) made.k[j] = 1.0f, made.i[j] = 0.0f, made.f[j] = std::nearbyint(w[j]);
        const Row row(made, p_, blocks.row);
        const float infinity = std::numeric_limits<float>::infinity();
        Partial least(blocks, infinity), greatest(blocks, -infinity);
        blocks.run(call.threads, 0.6, [&](int64_t block, int64_t begin, int64_t end) {
          round_and_range<how>(from, to, begin, end, row, least.of(block), greatest.of(block));
        });
        fold(least, greatest, groups, &low, &high);
      }
      bool again = p_.kbi;
      for (int64_t j = 0; j < groups; ++j) {
        const float bits = std::nearbyint(w[j]);
        float needed_k, needed_i;
        needed<how>(low[j], high[j], bits, p_.kbi, p_.i_low, p_.i_high, &needed_k, &needed_i);
        i_out[j] = std::max(i[j] - decay_, needed_i);
        k_out[j] = std::max(k[j] * seen, needed_k);
        made.f[j] = fraction(bits, std::nearbyint(i_out[j]), p_.kbi);
        again |= made.f[j] != bits;  // more bits than float32 holds: coarser than it was just rounded
      }
      if (!again) return;
      const Row row(made, p_, blocks.row);
      blocks.run(call.threads, 0.5, [&](int64_t, int64_t begin, int64_t end) { round_forward<how>(from, to, begin, end, row); });
    });
  }

 private:
  float decay_;
};
REGISTER_KERNEL_BUILDER(Name("HgqcFixedTracked").Device(tensorflow::DEVICE_CPU), TrackedOp);

REGISTER_OP("HgqcFixedRoundGradient")
    .Input("upstream: float")
    .Input("x: float")
    .HGQC_FIXED_BITS
    .Output("d_width: float")
    .HGQC_FIXED_ATTRIBUTES.SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->input(4));
      return tensorflow::Status();
    });

// Of a quantizer that only rounds, or wraps: the gradient of the data is the upstream one.
class RoundGradientOp : public FixedOp {
 public:
  using FixedOp::FixedOp;
  void Compute(OpKernelContext* context) override {
    if (!check(context, 1, 2)) return;
    OP_REQUIRES(context, context->input(0).NumElements() == context->input(1).NumElements(), InvalidArgument("a gradient of another shape"));
    compute(context, *this, {context->input(4).shape()});
  }
  void call(const Call& call) const override {
    Parameters only_round = p_;
    only_round.overflow = kOnlyRound;
    parts(call.size(1), call.size(4), [&](int64_t first, int64_t count, int64_t groups) {
      const float *const g = call.in(0) + first, *const at = call.in(1) + first;
      const Blocks blocks(count, groups);
      const Row row(formats(call, 2, at, blocks, first, groups), only_round, blocks.row);
      Partial d(blocks, 0.0f);
      with_rounding([&](auto rounding) {
        blocks.run(call.threads, 0.5, [&](int64_t block, int64_t begin, int64_t end) {
          round_backward<rounding.value>(g, at, begin, end, row, d.of(block));
        });
      });
      d.sums(groups, kLn2, call.out(0) + first);
    });
  }
};
REGISTER_KERNEL_BUILDER(Name("HgqcFixedRoundGradient").Device(tensorflow::DEVICE_CPU), RoundGradientOp);

REGISTER_OP("HgqcFixedSaturateGradient")
    .Input("upstream: float")
    .Input("x: float")
    .HGQC_FIXED_BITS
    .Output("d_x: float")
    .Output("d_i: float")
    .Output("d_width: float")
    .HGQC_FIXED_ATTRIBUTES.SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->input(1));
      c->set_output(1, c->input(4));
      c->set_output(2, c->input(4));
      return tensorflow::Status();
    });

class SaturateGradientOp : public FixedOp {
 public:
  using FixedOp::FixedOp;
  void Compute(OpKernelContext* context) override {
    if (!check(context, 1, 2)) return;
    OP_REQUIRES(context, context->input(0).NumElements() == context->input(1).NumElements(), InvalidArgument("a gradient of another shape"));
    const TensorShape& width = context->input(4).shape();
    compute(context, *this, {context->input(1).shape(), width, width});
  }
  void call(const Call& call) const override {
    parts(call.size(1), call.size(4), [&](int64_t first, int64_t count, int64_t groups) {
      const float *const g = call.in(0) + first, *const at = call.in(1) + first;
      float *const dx = call.out(0) + first, *const di = call.out(1) + first, *const dw = call.out(2) + first;
      if (are_alone(count, groups))
        return with_rounding([&](auto rounding) {
          with_kind(p_, [&](auto kbi, auto symmetric) {
            alone::backward<rounding.value, kbi.value, symmetric.value>(bits(call, 2, first), g, at, dx, di, dw, count);
          });
        });
      const Blocks blocks(count, groups);
      const Formats made = formats(call, 2, at, blocks, first, groups);
      const Row row(made, p_, blocks.row);
      Partial d(blocks, 0.0f), d_above(blocks, 0.0f), d_below(blocks, 0.0f);
      with_rounding([&](auto rounding) {
        blocks.run(call.threads, 0.8, [&](int64_t block, int64_t begin, int64_t end) {
          saturate_backward<rounding.value>(g, at, dx, begin, end, row, d.of(block), d_above.of(block), d_below.of(block));
        });
      });
      Numbers above, below, inside;
      for (auto* part : {&above, &below, &inside}) part->resize(groups);
      d.sums(groups, 1.0f, inside.data()), d_above.sums(groups, 1.0f, above.data()), d_below.sums(groups, 1.0f, below.data());
      bits_backward(made, p_, inside.data(), above.data(), below.data(), groups, di, dw);
    });
  }
};
REGISTER_KERNEL_BUILDER(Name("HgqcFixedSaturateGradient").Device(tensorflow::DEVICE_CPU), SaturateGradientOp);

REGISTER_OP("HgqcFixedConstantBits")
    .Input("x: float")
    .HGQC_FIXED_BITS
    .Output("bits: float")
    .Output("slope: float")
    .Attr("share: float")
    .HGQC_FIXED_ATTRIBUTES.SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->input(0));
      c->set_output(1, c->input(0));
      return tensorflow::Status();
    });

// Effective bits of quantized constants, and by how much each grows with its declared bits: `share`, or 0 for a constant that is 0.
class ConstantBitsOp : public FixedOp {
 public:
  explicit ConstantBitsOp(OpKernelConstruction* context) : FixedOp(context) { OP_REQUIRES_OK(context, context->GetAttr("share", &share_)); }
  void Compute(OpKernelContext* context) override {
    if (check(context, 0, 1)) compute(context, *this, {context->input(0).shape(), context->input(0).shape()});
  }
  void call(const Call& call) const override {
    parts(call.size(0), call.size(3), [&](int64_t first, int64_t count, int64_t groups) {
      const float* const from = call.in(0) + first;
      float *const bits = call.out(0) + first, *const slope = call.out(1) + first, share = share_;
      const auto measure = [=](int64_t begin, int64_t end) {  // what is in `bits` is quantized
#pragma GCC ivdep
        for (int64_t at = begin; at < end; ++at) {
          const float q = bits[at];
          slope[at] = q == 0.0f ? 0.0f : share;
          bits[at] = significant_bits(q);
        }
      };
      if (are_alone(count, groups)) return quantize_alone(call, 1, from, bits, first, count), measure(0, count);
      const Blocks blocks(count, groups);
      const Row row(formats(call, 1, from, blocks, first, groups), p_, blocks.row);
      with_rounding([&](auto rounding) {
        blocks.run(call.threads, 1.0, [&](int64_t, int64_t begin, int64_t end) {
          forward<rounding.value>(from, bits, begin, end, row, p_.overflow);
          measure(begin, end);
        });
      });
    });
  }

 private:
  float share_;
};
REGISTER_KERNEL_BUILDER(Name("HgqcFixedConstantBits").Device(tensorflow::DEVICE_CPU), ConstantBitsOp);

REGISTER_OP("HgqcFixedDataBits")
    .HGQC_FIXED_BITS
    .Output("bits: float")
    .Output("slope: float")
    .Attr("share: float")
    .HGQC_FIXED_ATTRIBUTES.SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->input(2));
      c->set_output(1, c->input(2));
      return tensorflow::Status();
    });

// Declared bits of data, 0 where only 0 fits, and the slope likewise.
class DataBitsOp : public FixedOp {
 public:
  explicit DataBitsOp(OpKernelConstruction* context) : FixedOp(context) { OP_REQUIRES_OK(context, context->GetAttr("share", &share_)); }
  void Compute(OpKernelContext* context) override {
    if (check(context, 2, 0)) compute(context, *this, {context->input(2).shape(), context->input(2).shape()});
  }
  void call(const Call& call) const override {
    const int64_t groups = call.size(2);
    const Blocks blocks(groups, groups);
    const Formats made = formats(call, 0, call.in(2), blocks, 0, groups);
    float *const bits = call.out(0), *const slope = call.out(1);
    for (int64_t j = 0; j < groups; ++j) {
      const bool dead = is_dead(made.k[j], made.i[j], made.f[j], p_.overflow);
      bits[j] = dead ? 0.0f : made.k[j] + (made.i[j] + made.f[j]);
      slope[j] = dead ? 0.0f : share_;
    }
  }

 private:
  float share_;
};
REGISTER_KERNEL_BUILDER(Name("HgqcFixedDataBits").Device(tensorflow::DEVICE_CPU), DataBitsOp);

}  // namespace fixed
}  // namespace hgqc
