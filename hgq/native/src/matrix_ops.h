// Products of matrices of which one is small, as ops.
#pragma once
#include "blocks.h"
#include "matrix.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace hgqc {
namespace matrix_ops {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::errors::InvalidArgument;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// Threads for what is worth waking them.
struct Shared {
  Threads* threads;
  template <class Work>
  void operator()(int64_t count, int64_t cost, const Work& work) const {
    if (!threads || count <= 1 || (double)count * cost < fixed::kWorthThreads)
      OneThread()(count, cost, work);
    else
      threads->ParallelFor(count, 3 * cost, work);
  }
};

REGISTER_OP("HgqcMatMul")
    .Input("a: float")
    .Input("b: float")
    .Output("product: float")
    .Attr("transpose_a: bool = false")
    .Attr("transpose_b: bool = false")
    .SetShapeFn(tensorflow::shape_inference::MatMulShape);

class MatMulOp : public OpKernel, public Direct {
 public:
  explicit MatMulOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("transpose_a", &transpose_a_));
    OP_REQUIRES_OK(context, context->GetAttr("transpose_b", &transpose_b_));
    OP_REQUIRES(context, !(transpose_a_ && transpose_b_), InvalidArgument("not both matrices can be transposed"));
  }
  void Compute(OpKernelContext* context) override {
    const Tensor &a = context->input(0), &b = context->input(1);
    OP_REQUIRES(context, a.dims() == 2 && b.dims() == 2 && a.dim_size(!transpose_a_) == b.dim_size(transpose_b_),
                InvalidArgument("no product of ", a.shape().DebugString(), " and ", b.shape().DebugString()));
    compute(context, *this, {TensorShape({a.dim_size(transpose_a_), b.dim_size(!transpose_b_)})});
  }
  void call(const Call& call) const override {
    const TensorShape &product = *call.made[0], &a = *call.given[0];
    matrix_product(call.in(0), call.in(1), call.out(0), product.dim_size(0), product.dim_size(1), a.dim_size(!transpose_a_), transpose_a_,
                   transpose_b_, Shared{call.threads});
  }

 private:
  bool transpose_a_, transpose_b_;
};
REGISTER_KERNEL_BUILDER(Name("HgqcMatMul").Device(tensorflow::DEVICE_CPU), MatMulOp);

REGISTER_OP("HgqcDense")
    .Input("x: float")
    .Input("kernel: float")
    .Input("bias: float")
    .Output("result: float")
    .Attr("relu: bool = false")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle x, kernel;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 2, &x));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &kernel));
      c->set_output(0, c->Matrix(c->Dim(x, 0), c->Dim(kernel, 1)));
      return tensorflow::Status();
    });

// x kernel + bias, or the ReLU of that.
class DenseOp : public OpKernel, public Direct {
 public:
  explicit DenseOp(OpKernelConstruction* context) : OpKernel(context) { OP_REQUIRES_OK(context, context->GetAttr("relu", &relu_)); }
  void Compute(OpKernelContext* context) override {
    const Tensor &x = context->input(0), &kernel = context->input(1), &bias = context->input(2);
    OP_REQUIRES(context, x.dims() == 2 && kernel.dims() == 2 && x.dim_size(1) == kernel.dim_size(0),
                InvalidArgument("no product of ", x.shape().DebugString(), " and ", kernel.shape().DebugString()));
    OP_REQUIRES(context, bias.dims() == 1 && bias.dim_size(0) == kernel.dim_size(1),
                InvalidArgument("no bias of shape ", bias.shape().DebugString(), " for ", kernel.dim_size(1), " outputs"));
    compute(context, *this, {TensorShape({x.dim_size(0), kernel.dim_size(1)})});
  }
  void call(const Call& call) const override {
    const TensorShape &result = *call.made[0], &x = *call.given[0];
    dense_product(call.in(0), call.in(1), call.in(2), relu_, call.out(0), result.dim_size(0), result.dim_size(1), x.dim_size(1),
                  Shared{call.threads});
  }

 private:
  bool relu_;
};
REGISTER_KERNEL_BUILDER(Name("HgqcDense").Device(tensorflow::DEVICE_CPU), DenseOp);

}  // namespace matrix_ops
}  // namespace hgqc
