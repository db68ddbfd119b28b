// Adam's update of all variables in one op: for the many small variables that bitwidths are, the ops of a graph cost more than the arithmetic.
// The same float operations in the same order as keras.optimizers.Adam and the constraint hgq.quantizers.constraints.Between.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "call.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace hgqc {

struct AdamRates {
  float m, v, epsilon;  // 1 - beta_1, 1 - beta_2
};

inline void adam(const float* __restrict g, float* __restrict x, float* __restrict m, float* __restrict v, int64_t n, float alpha, AdamRates rates) {
  for (int64_t j = 0; j < n; ++j) {
    const float new_m = m[j] + (g[j] - m[j]) * rates.m, new_v = v[j] + (g[j] * g[j] - v[j]) * rates.v;
    m[j] = new_m, v[j] = new_v;
    x[j] = x[j] - new_m * alpha / (std::sqrt(new_v) + rates.epsilon);
  }
}

inline void clip(float* x, int64_t n, float low, float high) {
  for (int64_t j = 0; j < n; ++j) {
    const float y = high < x[j] ? high : x[j];
    x[j] = low > y ? low : y;
  }
}

REGISTER_OP("HgqcAdam")
    .Input("variables: count * resource")
    .Input("momentums: count * resource")
    .Input("velocities: count * resource")
    .Input("gradients: count * float")
    .Input("alphas: float")
    .Attr("count: int >= 1")
    .Attr("alpha_of: list(int)")
    .Attr("low: list(float)")
    .Attr("high: list(float)")
    .Attr("one_minus_beta_1: float")
    .Attr("one_minus_beta_2: float")
    .Attr("epsilon: float")
    .Attr("models: int >= 1 = 1")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext*) { return tensorflow::Status(); });

// `alphas`: learning rates, corrected for the bias of both means; alpha_of says which of them a variable has. low > high: no constraint.
// `models`: so many stand one behind the other in each variable, and in the alphas: each has its own.
class AdamOp : public tensorflow::OpKernel, public Direct {
 public:
  explicit AdamOp(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("count", &count_));
    OP_REQUIRES_OK(context, context->GetAttr("alpha_of", &alpha_of_));
    OP_REQUIRES_OK(context, context->GetAttr("low", &low_));
    OP_REQUIRES_OK(context, context->GetAttr("high", &high_));
    OP_REQUIRES_OK(context, context->GetAttr("one_minus_beta_1", &rates_.m));
    OP_REQUIRES_OK(context, context->GetAttr("one_minus_beta_2", &rates_.v));
    OP_REQUIRES_OK(context, context->GetAttr("epsilon", &rates_.epsilon));
    OP_REQUIRES_OK(context, context->GetAttr("models", &models_));
    const size_t count = count_;
    OP_REQUIRES(context, alpha_of_.size() == count && low_.size() == count && high_.size() == count,
                tensorflow::errors::InvalidArgument("not one attribute for each variable"));
  }

  void Compute(tensorflow::OpKernelContext* context) override {
    const auto alphas = context->input(4 * count_).flat<float>();
    for (int n = 0; n < count_; ++n) {
      tensorflow::core::RefCountPtr<tensorflow::Var> held[3];
      for (int part = 0; part < 3; ++part)
        OP_REQUIRES_OK(context, tensorflow::LookupResource(context, tensorflow::HandleFromInput(context, part * count_ + n), &held[part]));
      const tensorflow::Tensor& gradient = context->input(3 * count_ + n);
      float* at[3];
      // Always in this order, and no two variables at a time: another step cannot block this one for ever.
      for (int part = 0; part < 3; ++part) {
        tensorflow::mutex_lock lock(*held[part]->mu());
        tensorflow::Tensor* const value = held[part]->tensor();
        OP_REQUIRES(context, value->dtype() == tensorflow::DT_FLOAT && value->NumElements() == gradient.NumElements(),
                    tensorflow::errors::InvalidArgument("variable ", n, " is not a float32 of the shape of its gradient"));
        if (!value->RefCountIsOne()) {  // somebody still reads it: the update goes to a copy
          tensorflow::Tensor copy;
          OP_REQUIRES_OK(context, context->allocate_temp(tensorflow::DT_FLOAT, value->shape(), &copy));
          const auto from = value->flat<float>();
          std::copy(from.data(), from.data() + from.size(), copy.flat<float>().data());
          *value = copy;
        }
        at[part] = value->flat<float>().data();
      }
      const int64_t choices = alphas.size() / models_, size = gradient.NumElements() / models_;
      OP_REQUIRES(context, alpha_of_[n] >= 0 && alpha_of_[n] < choices && size * models_ == gradient.NumElements(),
                  tensorflow::errors::InvalidArgument("no such alpha, or another number of models"));
      update(n, gradient.flat<float>().data(), at, size, alphas.data(), choices);
    }
  }

  // On the memory of the variables: it is changed.
  void call(const Call& call) const override {
    for (int n = 0; n < count_; ++n) {
      float* at[3];
      for (int part = 0; part < 3; ++part) at[part] = const_cast<float*>(call.in(part * count_ + n));
      update(n, call.in(3 * count_ + n), at, call.size(3 * count_ + n) / models_, call.in(4 * count_), call.size(4 * count_) / models_);
    }
  }

 private:
  void update(int n, const float* g, float* const at[3], int64_t size, const float* alphas, int64_t choices) const {
    for (int64_t model = 0; model < models_; ++model) {
      const int64_t from = model * size;
      adam(g + from, at[0] + from, at[1] + from, at[2] + from, size, alphas[model * choices + alpha_of_[n]], rates_);
    }
    if (low_[n] <= high_[n]) clip(at[0], size * models_, low_[n], high_[n]);
  }

  int count_, models_;
  std::vector<int> alpha_of_;
  std::vector<float> low_, high_;
  AdamRates rates_;
};
REGISTER_KERNEL_BUILDER(Name("HgqcAdam").Device(tensorflow::DEVICE_CPU), AdamOp);

}  // namespace hgqc
