// The gradient of ``relu(y + bias)`` in one pass: what is left for y, and its sums for the bias.
#pragma once
#include "fixed_ops.h"

namespace hgqc {
namespace relu_ops {

using namespace fixed;

REGISTER_OP("HgqcBiasReluGradient")
    .Input("upstream: float")
    .Input("result: float")
    .Output("data: float")
    .Output("bias: float")
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->input(1));
      c->set_output(1, c->Vector(c->RankKnown(c->input(1)) ? c->Dim(c->input(1), -1) : c->UnknownDim()));
      return tensorflow::Status();
    });

// `out` may be `g`.
inline void bias_relu_gradient(const float* g, const float* y, float* out, float* sums, int64_t length) {
#pragma GCC ivdep
  for (int64_t j = 0; j < length; ++j) {
    const float left = y[j] > 0.0f ? g[j] : 0.0f;
    out[j] = left;
    sums[j] += left;
  }
}

class BiasReluGradientOp : public OpKernel, public Direct {
 public:
  using OpKernel::OpKernel;
  void Compute(OpKernelContext* context) override {
    const Tensor& result = context->input(1);
    OP_REQUIRES(context, context->input(0).shape() == result.shape() && result.dims() > 0, InvalidArgument("a gradient of another shape"));
    // in place, where nobody else reads the gradient: new memory costs more than the pass itself
    compute(context, *this, {result.shape(), TensorShape({result.dim_size(result.dims() - 1)})}, 0);
  }
  void call(const Call& call) const override {
    const int64_t count = call.size(1), channels = call.made[1]->num_elements();
    if (channels == 0) return;
    const Blocks blocks(count, channels);
    Partial sums(blocks, 0.0f);
    const float *const g = call.in(0), *const y = call.in(1);
    float* const out = call.out(0);
    blocks.run(call.threads, 0.5, [&](int64_t block, int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end; at += blocks.row)
        bias_relu_gradient(g + at, y + at, out + at, sums.of(block), std::min(blocks.row, end - at));
    });
    sums.sums(channels, 1.0f, call.out(1));
  }
};
REGISTER_KERNEL_BUILDER(Name("HgqcBiasReluGradient").Device(tensorflow::DEVICE_CPU), BiasReluGradientOp);

}  // namespace relu_ops
}  // namespace hgqc
