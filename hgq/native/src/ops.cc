// The TensorFlow ops. What they compute is in the headers; here are shapes, scales and threads.
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "adam.h"
#include "each.h"
#include "fixed_ops.h"
#include "matrix_ops.h"
#include "products.h"
#include "program.h"
#include "quantize.h"
#include "relu_ops.h"
#include "window_ops.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace hgqc {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::errors::InvalidArgument;
using tensorflow::shape_inference::InferenceContext;

constexpr int64_t kChunk = 16384;  // elements a task works on: they stay in the first caches

// work(begin, end) on chunks of `count` elements, on TensorFlow's own threads. `cost`: nanoseconds an element.
template <class Work>
void for_elements(OpKernelContext* context, int64_t count, double cost, const Work& work) {
  const int64_t chunks = (count + kChunk - 1) / kChunk;
  auto* const threads = context->device()->tensorflow_cpu_worker_threads();
  threads->workers->ParallelFor(chunks, (int64_t)(3 * cost * kChunk), [&](int64_t from, int64_t to) {
    for (int64_t chunk = from; chunk < to; ++chunk) work(chunk * kChunk, std::min(count, (chunk + 1) * kChunk));
  });
}

float greatest_magnitude(OpKernelContext* context, const float* x, int64_t count) {
  std::vector<int32_t> peaks((count + kChunk - 1) / kChunk, 0);
  for_elements(context, count, 0.2, [&](int64_t begin, int64_t end) { peaks[begin / kChunk] = peak_pattern(x + begin, end - begin); });
  return float_of(peaks.empty() ? 0 : *std::max_element(peaks.begin(), peaks.end()));
}

bool is_finite(float x) { return (bits_of(x) & 0x7F800000) != 0x7F800000; }

tensorflow::Status same_shape(InferenceContext* c) {
  c->set_output(0, c->input(0));
  return tensorflow::Status();
}
tensorflow::Status codes_and_scale(InferenceContext* c) {
  c->set_output(0, c->input(0));
  c->set_output(1, c->Scalar());
  return tensorflow::Status();
}

#define HGQC_SEED(context, index)                                                                              \
  OP_REQUIRES(context, context->input(index).NumElements() == 2, InvalidArgument("the seed is not two numbers")); \
  const auto seed = context->input(index).flat<int32_t>()

REGISTER_OP("HgqcLuq")
    .Input("gradient: float")
    .Input("alpha: float")
    .Input("seed: int32")
    .Output("quantized: float")
    .Attr("levels: int")
    .Attr("samples: int = 1")
    .Attr("rows: bool = false")
    .SetShapeFn(same_shape);

// `alpha`: the least level, of the tensor or (with `rows`) of each row; without elements, such that the greatest magnitude is on the grid.
class LuqOp : public OpKernel {
 public:
  explicit LuqOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("levels", &levels_));
    OP_REQUIRES_OK(context, context->GetAttr("samples", &samples_));
    OP_REQUIRES_OK(context, context->GetAttr("rows", &rows_));
  }
  void Compute(OpKernelContext* context) override {
    const Tensor &gradient = context->input(0), &alphas = context->input(1);
    HGQC_SEED(context, 2);
    Tensor* result;
    if (samples_ == 1)  // in place, where nobody else reads the gradient
      OP_REQUIRES_OK(context, context->forward_input_or_allocate_output({0}, 0, gradient.shape(), &result));
    else
      OP_REQUIRES_OK(context, context->allocate_output(0, gradient.shape(), &result));
    const int64_t count = gradient.NumElements();
    if (count == 0) return;
    const int64_t width = rows_ && gradient.dims() > 0 ? gradient.dim_size(gradient.dims() - 1) : count, rows = count / width;
    OP_REQUIRES(context, alphas.NumElements() == 0 || alphas.NumElements() == rows, InvalidArgument("not one alpha for each scale"));
    std::vector<uint32_t> starts(samples_);
    for (int s = 0; s < samples_; ++s) starts[s] = stream(s ? derived(seed(0), 16 + s) : seed(0), seed(1));
    const float* const g = gradient.flat<float>().data();
    const float* const given = alphas.NumElements() ? alphas.flat<float>().data() : nullptr;
    float* const out = result->flat<float>().data();
    const float top = std::ldexp(1.0f, levels_ - 1);
    if (rows == 1) {
      const float alpha = given ? given[0] : luq_alpha(greatest_magnitude(context, g, count), levels_);
      for_elements(context, count, samples_, [&](int64_t begin, int64_t end) { luq(g, out, begin, end, alpha, top, starts.data(), samples_); });
      return;
    }
    const int64_t height = std::max<int64_t>(1, kChunk / width);
    auto* const threads = context->device()->tensorflow_cpu_worker_threads();
    threads->workers->ParallelFor((rows + height - 1) / height, 3 * samples_ * height * width, [&](int64_t from, int64_t to) {
      for (int64_t row = from * height; row < std::min(rows, to * height); ++row) {
        const int64_t begin = row * width;
        const float alpha = given ? given[row] : luq_alpha(float_of(peak_pattern(g + begin, width)), levels_);
        luq(g, out, begin, begin + width, alpha, top, starts.data(), samples_);
      }
    });
  }

 private:
  int levels_, samples_;
  bool rows_;
};
REGISTER_KERNEL_BUILDER(Name("HgqcLuq").Device(tensorflow::DEVICE_CPU), LuqOp);

REGISTER_OP("HgqcLuqCodes")
    .Input("gradient: float")
    .Input("seed: int32")
    .Output("codes: int8")
    .Output("scale: float")
    .Attr("levels: int")
    .SetShapeFn(codes_and_scale);

REGISTER_OP("HgqcIntegerCodes")
    .Input("x: float")
    .Input("seed: int32")
    .Output("codes: int8")
    .Output("scale: float")
    .Attr("bits: int")
    .Attr("stochastic: bool = true")
    .Attr("power_of_two: bool = false")
    .SetShapeFn(codes_and_scale);

// int8 codes and the scale of a tensor; the scale is NaN, and the codes are 0, where anything is infinite or NaN.
class CodesOp : public OpKernel {
 public:
  using OpKernel::OpKernel;
  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    HGQC_SEED(context, 1);
    Tensor *codes, *scale;
    OP_REQUIRES_OK(context, context->allocate_output(0, x.shape(), &codes));
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({}), &scale));
    const int64_t count = x.NumElements();
    const float* const from = x.flat<float>().data();
    int8_t* const to = codes->flat<int8_t>().data();
    const float peak = greatest_magnitude(context, from, count);
    if (!is_finite(peak)) {
      std::fill(to, to + count, 0);
      scale->scalar<float>()() = std::numeric_limits<float>::quiet_NaN();
      return;
    }
    const float unit = scale_of(peak);
    const uint32_t start = stream(seed(0), seed(1));
    for_elements(context, count, 1.0, [&](int64_t begin, int64_t end) { encode(from, to, begin, end, unit, start); });
    scale->scalar<float>()() = unit;
  }

 protected:
  virtual float scale_of(float peak) const = 0;
  virtual void encode(const float* x, int8_t* codes, int64_t begin, int64_t end, float scale, uint32_t start) const = 0;
};

class LuqCodesOp : public CodesOp {
 public:
  explicit LuqCodesOp(OpKernelConstruction* context) : CodesOp(context) {
    OP_REQUIRES_OK(context, context->GetAttr("levels", &levels_));
    OP_REQUIRES(context, levels_ >= 1 && levels_ <= 7, InvalidArgument("8-bit codes have 1 to 7 levels, not ", levels_));
  }

 protected:
  float scale_of(float peak) const override { return luq_alpha(peak, levels_); }
  void encode(const float* x, int8_t* codes, int64_t begin, int64_t end, float scale, uint32_t start) const override {
    luq_codes(x, codes, begin, end, scale, std::ldexp(1.0f, levels_ - 1), start);
  }

 private:
  int levels_;
};
REGISTER_KERNEL_BUILDER(Name("HgqcLuqCodes").Device(tensorflow::DEVICE_CPU), LuqCodesOp);

class IntegerCodesOp : public CodesOp {
 public:
  explicit IntegerCodesOp(OpKernelConstruction* context) : CodesOp(context) {
    OP_REQUIRES_OK(context, context->GetAttr("bits", &bits_));
    OP_REQUIRES_OK(context, context->GetAttr("stochastic", &stochastic_));
    OP_REQUIRES_OK(context, context->GetAttr("power_of_two", &power_of_two_));
    OP_REQUIRES(context, bits_ >= 2 && bits_ <= 8, InvalidArgument("8-bit codes have 2 to 8 bits, not ", bits_));
  }

 protected:
  float highest() const { return std::ldexp(1.0f, bits_ - 1) - 1.0f; }
  float scale_of(float peak) const override { return power_of_two_ ? power_for(peak, bits_) : integer_scale(peak, bits_); }
  void encode(const float* x, int8_t* codes, int64_t begin, int64_t end, float scale, uint32_t start) const override {
    integer_codes(x, codes, begin, end, scale, highest(), start, stochastic_);
  }

 private:
  int bits_;
  bool stochastic_, power_of_two_;
};
REGISTER_KERNEL_BUILDER(Name("HgqcIntegerCodes").Device(tensorflow::DEVICE_CPU), IntegerCodesOp);

REGISTER_OP("HgqcInteger")
    .Input("gradient: float")
    .Input("seed: int32")
    .Output("quantized: float")
    .Attr("bits: int")
    .Attr("stochastic: bool = true")
    .SetShapeFn(same_shape);

class IntegerOp : public OpKernel {
 public:
  explicit IntegerOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("bits", &bits_));
    OP_REQUIRES_OK(context, context->GetAttr("stochastic", &stochastic_));
  }
  void Compute(OpKernelContext* context) override {
    const Tensor& gradient = context->input(0);
    HGQC_SEED(context, 1);
    Tensor* result;
    OP_REQUIRES_OK(context, context->forward_input_or_allocate_output({0}, 0, gradient.shape(), &result));
    const int64_t count = gradient.NumElements();
    const float* const g = gradient.flat<float>().data();
    float* const out = result->flat<float>().data();
    const float highest = std::ldexp(1.0f, bits_ - 1) - 1.0f, peak = greatest_magnitude(context, g, count);
    const float scale = integer_scale(peak, bits_);
    const uint32_t start = stream(seed(0), seed(1));
    for_elements(context, count, 1.0, [&](int64_t begin, int64_t end) { integers(g, out, begin, end, scale, highest, start, stochastic_); });
  }

 private:
  int bits_;
  bool stochastic_;
};
REGISTER_KERNEL_BUILDER(Name("HgqcInteger").Device(tensorflow::DEVICE_CPU), IntegerOp);

// ---- products

REGISTER_OP("HgqcDataProduct")
    .Input("gradient: int8")
    .Input("kernel: int8")
    .Input("scale: float")
    .Output("product: float")
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->Matrix(c->Dim(c->input(0), 0), c->Dim(c->input(1), 0)));
      return tensorflow::Status();
    });
REGISTER_OP("HgqcKernelProduct")
    .Input("data: int8")
    .Input("gradient: int8")
    .Input("scale: float")
    .Output("product: float")
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->Matrix(c->Dim(c->input(0), 1), c->Dim(c->input(1), 1)));
      return tensorflow::Status();
    });

// scale * a b, both given with their contracted axis first or last; one of them holds gradient codes (see products.h).
template <bool kUnsignedA, bool kContractedFirst>
class ProductOp : public OpKernel {
 public:
  using OpKernel::OpKernel;
  void Compute(OpKernelContext* context) override {
    const Tensor &a = context->input(0), &b = context->input(1);
    constexpr int kContracted = kContractedFirst ? 0 : 1;
    OP_REQUIRES(context, a.dims() == 2 && b.dims() == 2 && a.dim_size(kContracted) == b.dim_size(kContracted),
                InvalidArgument("no product of ", a.shape().DebugString(), " and ", b.shape().DebugString()));
    OP_REQUIRES(context, context->input(2).NumElements() == 1, InvalidArgument("the scale is not one number"));
    const int64_t rows = a.dim_size(1 - kContracted), cols = b.dim_size(1 - kContracted), depth = a.dim_size(kContracted);
    Tensor* result;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({rows, cols}), &result));
    if (rows * cols == 0) return;
    const Tensor &gradient = kUnsignedA ? b : a, &other = kUnsignedA ? a : b;
    const auto [gradient_range, range] = ranges_of(context, gradient, other);
    OP_REQUIRES(context, gradient_range.low >= -kGreatestGradientCode && gradient_range.high <= kGreatestGradientCode,
                InvalidArgument("gradient codes go from -64 to 64"));
    const int limit = limit_of_signs(gradient_range, range);
    const float scale = context->input(2).flat<float>()(0) * (float)(1 << range.shift);
    float* const out = result->flat<float>().data();
    const int8_t *const at_a = a.flat<int8_t>().data(), *const at_b = b.flat<int8_t>().data();
    const auto parallel = [&](int64_t count, int64_t cost, const auto& work) {
      context->device()->tensorflow_cpu_worker_threads()->workers->ParallelFor(count, 3 * cost, work);
    };
    OP_REQUIRES(context, depth <= kExactDepth || kContractedFirst, InvalidArgument("more than 2^18 outputs"));
    if (depth <= kExactDepth) {
      const Operand x{at_a, rows, depth, kContractedFirst}, y{at_b, cols, depth, kContractedFirst};
      product<kUnsignedA>(x, y, range, limit, parallel, Scaled{out, scale});
      return;
    }
    std::vector<int64_t> totals(rows * cols, 0);  // more terms than 32 bits can sum: parts of them, each exact
    for (int64_t k = 0; k < depth; k += kExactDepth) {
      const int64_t part = std::min(kExactDepth, depth - k);
      const Operand x{at_a + k * rows, rows, part, true}, y{at_b + k * cols, cols, part, true};
      product<kUnsignedA>(x, y, range, limit, parallel, Totals{totals.data()});
    }
    for (int64_t i = 0; i < rows * cols; ++i) out[i] = (float)totals[i] * scale;
  }

 private:
  // Of both tensors in one pass: threads that wait for each other cost as much as a small pass does.
  static std::array<Range, 2> ranges_of(OpKernelContext* context, const Tensor& first, const Tensor& second) {
    const int8_t* const at[] = {first.flat<int8_t>().data(), second.flat<int8_t>().data()};
    const int64_t counts[] = {first.NumElements(), second.NumElements()}, split = (counts[0] + kChunk - 1) / kChunk;
    std::vector<Range> parts(split + (counts[1] + kChunk - 1) / kChunk);
    context->device()->tensorflow_cpu_worker_threads()->workers->ParallelFor(parts.size(), kChunk / 3, [&](int64_t from, int64_t to) {
      for (int64_t part = from; part < to; ++part) {
        const int tensor = part >= split;
        const int64_t begin = (part - tensor * split) * kChunk;
        parts[part] = hgqc::range_of(at[tensor] + begin, std::min(kChunk, counts[tensor] - begin));
      }
    });
    std::array<Range, 2> all;
    for (Range& range : all) range.shift = 7;
    for (int64_t part = 0; part < (int64_t)parts.size(); ++part) all[part >= split].include(parts[part]);
    return all;
  }
};
using DataProductOp = ProductOp<false, false>;
using KernelProductOp = ProductOp<true, true>;
REGISTER_KERNEL_BUILDER(Name("HgqcDataProduct").Device(tensorflow::DEVICE_CPU), DataProductOp);
REGISTER_KERNEL_BUILDER(Name("HgqcKernelProduct").Device(tensorflow::DEVICE_CPU), KernelProductOp);

}  // namespace
}  // namespace hgqc

extern "C" const char* hgqc_instructions() { return hgqc::kInstructions; }
