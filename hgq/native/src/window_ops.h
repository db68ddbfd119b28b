// The ops of convolutions and pooling in float32: shapes and threads. What they compute is in windows.h.
#pragma once
#include <vector>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "windows.h"

namespace hgqc {
namespace window_ops {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::errors::InvalidArgument;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// Attributes that say the sizes which no operand has.
class WindowOp : public OpKernel {
 public:
  explicit WindowOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("strides", &strides_));
    OP_REQUIRES_OK(context, context->GetAttr("sizes", &sizes_));
    OP_REQUIRES(context, strides_.size() == 2 && sizes_.size() == 2 && strides_[0] > 0 && strides_[1] > 0,
                InvalidArgument("two strides and two sizes"));
  }

 protected:
  std::vector<int64_t> strides_, sizes_;

  // Of data (samples, height, width, channels).
  bool windows(const TensorShape& x, int64_t taps_y, int64_t taps_x, int64_t outputs, Windows* w) const {
    if (x.dims() != 4 || taps_y < 1 || taps_x < 1 || x.dim_size(1) < taps_y || x.dim_size(2) < taps_x) return false;
    *w = {x.dim_size(0), x.dim_size(1), x.dim_size(2), x.dim_size(3), taps_y, taps_x, strides_[0], strides_[1], 0, 0, outputs};
    w->out_height = (w->height - taps_y) / w->stride_y + 1;
    w->out_width = (w->width - taps_x) / w->stride_x + 1;
    return true;
  }
  static TensorShape results(const Windows& w) { return TensorShape({w.samples, w.out_height, w.out_width, w.outputs}); }
  static auto parallel(OpKernelContext* context) {
    auto* const workers = context->device()->tensorflow_cpu_worker_threads()->workers;
    return [workers](int64_t tasks, int64_t cost, const auto& work) { workers->ParallelFor(tasks, cost, work); };
  }
};

#define HGQC_FIT(condition, a, b) \
  OP_REQUIRES(context, condition, InvalidArgument("these do not fit: ", (a).shape().DebugString(), " and ", (b).shape().DebugString()))

// y of x and kernel.
class ConvolveOp : public WindowOp {
 public:
  using WindowOp::WindowOp;
  void Compute(OpKernelContext* context) override {
    const Tensor &x = context->input(0), &kernel = context->input(1);
    Windows w;
    HGQC_FIT(x.dims() == 4 && kernel.dims() == 4 && kernel.dim_size(2) == x.dim_size(3), x, kernel);
    HGQC_FIT(windows(x.shape(), kernel.dim_size(0), kernel.dim_size(1), kernel.dim_size(3), &w), x, kernel);
    Tensor* y;
    OP_REQUIRES_OK(context, context->allocate_output(0, results(w), &y));
    if (y->NumElements() == 0) return;
    convolve(w, x.flat<float>().data(), forward_panels(w, kernel.flat<float>().data()), y->flat<float>().data(), parallel(context));
  }
};

// dx of g and kernel; `sizes` are x's height and width.
class ConvolveDataOp : public WindowOp {
 public:
  using WindowOp::WindowOp;
  void Compute(OpKernelContext* context) override {
    const Tensor &g = context->input(0), &kernel = context->input(1);
    HGQC_FIT(g.dims() == 4 && kernel.dims() == 4, g, kernel);
    const TensorShape shape({g.dim_size(0), sizes_[0], sizes_[1], kernel.dim_size(2)});
    Windows w;
    HGQC_FIT(windows(shape, kernel.dim_size(0), kernel.dim_size(1), kernel.dim_size(3), &w) && results(w) == g.shape(), g, kernel);
    Tensor* dx;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &dx));
    if (dx->NumElements() == 0) return;
    convolve_data(w, g.flat<float>().data(), kernel.flat<float>().data(), dx->flat<float>().data(), parallel(context));
  }
};

// dk of x and g; `sizes` are the taps.
class ConvolveKernelOp : public WindowOp {
 public:
  using WindowOp::WindowOp;
  void Compute(OpKernelContext* context) override {
    const Tensor &x = context->input(0), &g = context->input(1);
    Windows w;
    HGQC_FIT(g.dims() == 4 && windows(x.shape(), sizes_[0], sizes_[1], g.dim_size(3), &w), x, g);
    HGQC_FIT(results(w) == g.shape(), x, g);
    Tensor* dk;
    const TensorShape shape({w.taps_y, w.taps_x, w.channels, w.outputs});
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &dk));
    if (dk->NumElements() == 0) return;
    convolve_kernel(w, x.flat<float>().data(), g.flat<float>().data(), dk->flat<float>().data(), parallel(context));
  }
};

// dx of x, the greatest y of its windows, and g; `sizes` are the windows'.
class GreatestGradientOp : public WindowOp {
 public:
  using WindowOp::WindowOp;
  void Compute(OpKernelContext* context) override {
    const Tensor &x = context->input(0), &y = context->input(1), &g = context->input(2);
    Windows w;
    HGQC_FIT(x.dims() == 4 && windows(x.shape(), sizes_[0], sizes_[1], x.dim_size(3), &w), x, y);
    HGQC_FIT(results(w) == y.shape() && y.shape() == g.shape(), y, g);
    Tensor* dx;
    OP_REQUIRES_OK(context, context->allocate_output(0, x.shape(), &dx));
    if (dx->NumElements() == 0) return;
    greatest_gradient(w, x.flat<float>().data(), y.flat<float>().data(), g.flat<float>().data(), dx->flat<float>().data(), parallel(context));
  }
};

inline tensorflow::Status as_first(InferenceContext* c) {
  c->set_output(0, c->input(0));
  return tensorflow::Status();
}

// Shapes of what ConvolveOp, ConvolveDataOp and ConvolveKernelOp make.
struct Sizes {
  std::vector<int64_t> strides, sizes;
  ShapeHandle first, second;
};
inline tensorflow::Status read(InferenceContext* c, Sizes* all) {
  TF_RETURN_IF_ERROR(c->GetAttr("strides", &all->strides));
  TF_RETURN_IF_ERROR(c->GetAttr("sizes", &all->sizes));
  if (all->strides.size() != 2 || all->sizes.size() != 2) return tensorflow::Status(InvalidArgument("two strides and two sizes"));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &all->first));
  return c->WithRank(c->input(1), 4, &all->second);
}
inline tensorflow::Status of_product(InferenceContext* c) {
  Sizes all;
  TF_RETURN_IF_ERROR(read(c, &all));
  DimensionHandle windows[2];
  for (int axis = 0; axis < 2; ++axis) {
    const auto length = c->Dim(all.first, axis + 1), taps = c->Dim(all.second, axis);
    const bool known = c->ValueKnown(length) && c->ValueKnown(taps) && all.strides[axis] > 0 && c->Value(length) >= c->Value(taps);
    windows[axis] = known ? c->MakeDim((c->Value(length) - c->Value(taps)) / all.strides[axis] + 1) : c->UnknownDim();
  }
  c->set_output(0, c->MakeShape({c->Dim(all.first, 0), windows[0], windows[1], c->Dim(all.second, 3)}));
  return tensorflow::Status();
}
inline tensorflow::Status of_data(InferenceContext* c) {
  Sizes all;
  TF_RETURN_IF_ERROR(read(c, &all));
  c->set_output(0, c->MakeShape({c->Dim(all.first, 0), c->MakeDim(all.sizes[0]), c->MakeDim(all.sizes[1]), c->Dim(all.second, 2)}));
  return tensorflow::Status();
}
inline tensorflow::Status of_kernel(InferenceContext* c) {
  Sizes all;
  TF_RETURN_IF_ERROR(read(c, &all));
  c->set_output(0, c->MakeShape({c->MakeDim(all.sizes[0]), c->MakeDim(all.sizes[1]), c->Dim(all.first, 3), c->Dim(all.second, 3)}));
  return tensorflow::Status();
}

#define HGQC_WINDOW_OP(name, class_name, shape, first, second) \
  REGISTER_OP(name)                                           \
      .Input(first ": float")                                 \
      .Input(second ": float")                                \
      .Output("product: float")                               \
      .Attr("strides: list(int) = [1, 1]")                    \
      .Attr("sizes: list(int) = [1, 1]")                      \
      .SetShapeFn(shape);                                      \
  REGISTER_KERNEL_BUILDER(Name(name).Device(tensorflow::DEVICE_CPU), class_name)

HGQC_WINDOW_OP("HgqcConvolve", ConvolveOp, of_product, "x", "kernel");
HGQC_WINDOW_OP("HgqcConvolveData", ConvolveDataOp, of_data, "gradient", "kernel");
HGQC_WINDOW_OP("HgqcConvolveKernel", ConvolveKernelOp, of_kernel, "x", "gradient");

REGISTER_OP("HgqcGreatestGradient")
    .Input("x: float")
    .Input("greatest: float")
    .Input("gradient: float")
    .Output("data: float")
    .Attr("strides: list(int)")
    .Attr("sizes: list(int)")
    .SetShapeFn(as_first);
REGISTER_KERNEL_BUILDER(Name("HgqcGreatestGradient").Device(tensorflow::DEVICE_CPU), GreatestGradientOp);

}  // namespace window_ops
}  // namespace hgqc
