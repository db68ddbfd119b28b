// The training step of a small network as a program: its graph, node after node, on memory that is planned beforehand; for many models, each on
// one thread, one step after the other. Elementwise ops, the ones of this library and products are called as they are; of all others TensorFlow's
// kernels. The bits are those of TensorFlow's graph.
#pragma once
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "each.h"
#include "memory_plan.h"
#include "plain_ops.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/platform/denormal.h"

namespace hgqc {
namespace program {

using tensorflow::AllocatorAttributes;
using tensorflow::DataType;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::TensorValue;
using tensorflow::errors::InvalidArgument;
using tensorflow::shape_inference::InferenceContext;

REGISTER_OP("HgqcProgram")
    .Input("variables: count * resource")
    .Input("order: int32")
    .Input("data: data_types")
    .Input("constants: constant_types")
    .Attr("count: int >= 1")
    .Attr("data_types: list(type) >= 1")
    .Attr("constant_types: list(type) >= 0")
    .Attr("own_data: list(bool)")
    .Attr("models: int >= 1")
    .Attr("nodes: string")
    .Attr("types: list(type)")
    .Attr("shapes: list(shape)")
    .Attr("memory: list(int)")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext*) { return tensorflow::Status(); });

// Memory that somebody else owns.
class Borrowed : public tensorflow::TensorBuffer {
 public:
  Borrowed(void* data, size_t size) : TensorBuffer(data), size_(size) {}
  size_t size() const override { return size_; }
  TensorBuffer* root_buffer() override { return this; }
  bool OwnsMemory() const override { return false; }
  void FillAllocationDescription(tensorflow::AllocationDescription*) const override {}

 private:
  size_t size_;
};

inline Tensor on_memory(const plain::Kind& kind, void* data) {
  auto* const buffer = new Borrowed(data, kind.shape.num_elements() * tensorflow::DataTypeSize(kind.type));
  Tensor tensor(kind.type, kind.shape, buffer);
  buffer->Unref();
  return tensor;
}

struct Node {
  std::string name;
  std::unique_ptr<OpKernel> kernel;  // of TensorFlow, or of this library
  plain::Made plain;
  const Direct* direct = nullptr;  // what is called, if anything
  bool assigns = false;
  std::vector<int> inputs;
  int first = 0, outputs = 0;  // slots
};

// `order`: (steps, models, samples), which samples of the data a step takes. `data`: (n, ...), of all models or, with `own_data`, (models, n, ...).
//
// Slots hold tensors: first those of the variables, then the samples of each of `data`, then the constants, then the outputs of each node;
// `types` and `shapes` are theirs, in one model and one step; `memory` says whose memory a slot is, its own or that of one before it. `nodes`: a
// GraphDef in the order of execution; a node's `input` are numbers of slots. An Identity is another view of a slot's memory.
class ProgramOp : public OpKernel {
 public:
  explicit ProgramOp(OpKernelConstruction* context) : OpKernel(context), device_(static_cast<tensorflow::DeviceBase*>(context->device())) {
    std::string text;
    std::vector<tensorflow::PartialTensorShape> shapes;
    std::vector<DataType> types;
    OP_REQUIRES_OK(context, context->GetAttr("count", &count_));
    OP_REQUIRES_OK(context, context->GetAttr("own_data", &own_data_));
    OP_REQUIRES_OK(context, context->GetAttr("models", &models_));
    OP_REQUIRES_OK(context, context->GetAttr("nodes", &text));
    OP_REQUIRES_OK(context, context->GetAttr("types", &types));
    OP_REQUIRES_OK(context, context->GetAttr("shapes", &shapes));
    OP_REQUIRES_OK(context, context->GetAttr("memory", &memory_));
    OP_REQUIRES(context, types.size() == shapes.size() && types.size() == memory_.size(), InvalidArgument("not one type for each slot"));
    for (size_t slot = 0; slot < types.size(); ++slot) {
      plain::Kind kind{types[slot], {}};
      OP_REQUIRES(context, shapes[slot].AsTensorShape(&kind.shape) && memory_[slot] >= 0 && memory_[slot] <= (int)slot && tensorflow::DataTypeSize(kind.type) > 0,
                  InvalidArgument("slot ", slot, " is of unknown size"));
      kinds_.push_back(kind);
    }
    tensorflow::GraphDef graph;
    OP_REQUIRES(context, graph.ParseFromString(text), InvalidArgument("no GraphDef"));
    fixed_ = count_ + own_data_.size();
    given_ = context->num_inputs() - 1;
    int slots = given_;
    for (const auto& definition : graph.node()) {
      if (definition.op() == "Identity") {
        ++slots;
        continue;
      }
      nodes_.push_back(node(context, definition, slots));
      if (!context->status().ok()) return;
      slots += nodes_.back().outputs;
    }
    OP_REQUIRES(context, slots == (int)kinds_.size(), InvalidArgument(slots, " slots, but ", kinds_.size(), " types"));
    plan();
  }

  void Compute(OpKernelContext* context) override {
    std::vector<char*> variables(count_);
    std::vector<tensorflow::core::RefCountPtr<tensorflow::Var>> held(count_);
    for (int n = 0; n < count_; ++n) {
      OP_REQUIRES_OK(context, tensorflow::LookupResource(context, tensorflow::HandleFromInput(context, n), &held[n]));
      tensorflow::mutex_lock lock(*held[n]->mu());
      Tensor* const value = held[n]->tensor();
      OP_REQUIRES(context, value->dtype() == kinds_[n].type && value->NumElements() == models_ * kinds_[n].shape.num_elements(),
                  InvalidArgument("variable ", n, " does not hold ", models_, " models"));
      if (!value->RefCountIsOne()) {  // somebody still reads it
        Tensor copy;
        OP_REQUIRES_OK(context, context->allocate_temp(value->dtype(), value->shape(), &copy));
        std::memcpy(copy.data(), value->data(), value->TotalBytes());
        *value = copy;
      }
      variables[n] = static_cast<char*>(value->data());
    }
    OP_REQUIRES_OK(context, check(context));
    const int64_t steps = context->input(count_).dim_size(0);
    std::vector<tensorflow::Status> states(models_);
    auto* const threads = context->device()->tensorflow_cpu_worker_threads()->workers;
    threads->ParallelFor(models_, 10000000, [&](int64_t from, int64_t to) {
      const tensorflow::port::ScopedFlushDenormal flush;  // as TensorFlow's threads are set, but not the one that calls
      Worker worker(*this, context);
      for (int64_t model = from; model < to; ++model) states[model] = worker.run(model, steps, variables);
    });
    for (const auto& state : states) OP_REQUIRES_OK(context, state);
  }

 private:
  // The memory of one model at work.
  class Worker {
   public:
    Worker(const ProgramOp& op, OpKernelContext* context) : op_(op), context_(context), attributes_(64) {
      arena_ = Tensor(op.device_.GetAllocator(AllocatorAttributes()), tensorflow::DT_UINT8, TensorShape({op.arena_}));
      char* const base = static_cast<char*>(arena_.data());
      for (size_t slot = 0; slot < op.kinds_.size(); ++slot) {
        const int owner = op.memory_[slot];
        const bool constant = owner >= op.fixed_ && owner < op.given_;
        at_.push_back(constant ? op.given(context, owner).data() : base + op.offsets_[owner]);
        tensors_.push_back(op.is_tensor_[slot] ? on_memory(op.kinds_[slot], at_.back()) : Tensor());
      }
      for (const Node& node : op.nodes_) {
        for (int input : node.inputs) pointers_.push_back(at_[input]), shapes_.push_back(&op.kinds_[input].shape);
        for (int n = 0; n < node.outputs; ++n) made_.push_back(at_[node.first + n]), made_shapes_.push_back(&op.kinds_[node.first + n].shape);
      }
      params_.step_id = context->step_id();
      params_.device = const_cast<each::Device*>(&op.device_);
      params_.resource_manager = context->resource_manager();
      params_.step_container = context->step_container();
      params_.cancellation_manager = context->cancellation_manager();
      params_.session_config = context->session_config();
      params_.runner = context->runner();
      params_.output_attr_array = attributes_.data();
    }

    tensorflow::Status run(int64_t model, int64_t steps, const std::vector<char*>& variables) {
      for (int n = 0; n < op_.count_; ++n) std::memcpy(at_[n], variables[n] + model * op_.bytes(n), op_.bytes(n));
      for (int64_t step = 0; step < steps; ++step) {
        for (int n = op_.count_; n < op_.fixed_; ++n) gather(n, step, model);
        size_t input = 0, output = 0;
        for (const Node& node : op_.nodes_) {
          if (node.direct) {
            node.direct->call({pointers_.data() + input, shapes_.data() + input, made_.data() + output, made_shapes_.data() + output});
          } else if (node.assigns) {
            std::memcpy(at_[node.inputs[0]], pointers_[input + 1], op_.bytes(node.inputs[0]));
          } else {
            TF_RETURN_IF_ERROR(compute(node));
          }
          input += node.inputs.size(), output += node.outputs;
        }
      }
      for (int n = 0; n < op_.count_; ++n) std::memcpy(variables[n] + model * op_.bytes(n), at_[n], op_.bytes(n));
      return tensorflow::Status();
    }

   private:
    void gather(int slot, int64_t step, int64_t model) {
      const Tensor &order = context_->input(op_.count_), &data = op_.given(context_, slot);
      const int64_t samples = order.dim_size(2), size = op_.bytes(slot) / samples, own = op_.own_data_[slot - op_.count_] ? model * data.dim_size(1) : 0;
      const int32_t* const rows = order.flat<int32_t>().data() + (step * op_.models_ + model) * samples;
      const char* const from = static_cast<const char*>(data.data()) + own * size;
      char* const to = static_cast<char*>(at_[slot]);
      if (size == 4) {
        for (int64_t n = 0; n < samples; ++n) std::memcpy(to + n * 4, from + (int64_t)rows[n] * 4, 4);
      } else {
        for (int64_t n = 0; n < samples; ++n) std::memcpy(to + n * size, from + (int64_t)rows[n] * size, size);
      }
    }

    tensorflow::Status compute(const Node& node) {
      values_.clear();
      for (int input : node.inputs) values_.emplace_back(&tensors_[input]);
      params_.op_kernel = node.kernel.get();
      params_.inputs = absl::MakeConstSpan(values_);
      params_.input_alloc_attrs = absl::MakeConstSpan(attributes_.data(), values_.size());
      OpKernelContext one(&params_, node.outputs);
      node.kernel->Compute(&one);
      if (!one.status().ok()) return one.status();
      for (int output = 0; output < node.outputs; ++output) {
        const TensorValue made = one.release_output(output);
        if (made.tensor == nullptr) continue;  // one that the kernel leaves out
        const int slot = node.first + output;
        const bool fits = made->shape() == op_.kinds_[slot].shape && made->dtype() == op_.kinds_[slot].type;
        if (fits) std::memcpy(at_[slot], made->data(), made->TotalBytes());
        delete made.tensor;
        if (!fits) return InvalidArgument(node.name, " makes a tensor of another shape");
      }
      return tensorflow::Status();
    }

    const ProgramOp& op_;
    OpKernelContext* const context_;
    std::vector<AllocatorAttributes> attributes_;
    OpKernelContext::Params params_;
    Tensor arena_;
    std::vector<void*> at_;        // by slot
    std::vector<Tensor> tensors_;  // the same, for TensorFlow's kernels
    std::vector<const void*> pointers_;
    std::vector<const TensorShape*> shapes_, made_shapes_;
    std::vector<void*> made_;
    std::vector<TensorValue> values_;
  };

  // The input that a slot is, or is taken from.
  static const Tensor& given(OpKernelContext* context, int slot) { return context->input(slot + 1); }

  tensorflow::Status check(OpKernelContext* context) const {
    const Tensor& order = context->input(count_);
    if (order.dims() != 3 || order.dim_size(1) != models_) return InvalidArgument("an order of shape ", order.shape().DebugString());
    const auto rows = order.flat<int32_t>();
    const auto [least, greatest] = std::minmax_element(rows.data(), rows.data() + rows.size());
    for (int slot = count_; slot < given_; ++slot) {
      const Tensor& input = given(context, slot);
      const bool sampled = slot < fixed_, own = sampled && own_data_[slot - count_];
      TensorShape one = input.shape();
      if (own && one.dims() > 1 && one.dim_size(0) == models_) one.RemoveDim(0);
      if (sampled && one.dims() > 0) {
        if (rows.size() && (*least < 0 || *greatest >= one.dim_size(0))) return InvalidArgument("there is no sample ", *greatest, " in input ", slot);
        one.set_dim(0, order.dim_size(2));
      }
      if (input.dtype() != kinds_[slot].type || one != kinds_[slot].shape)
        return InvalidArgument("input ", slot, " is of shape ", input.shape().DebugString(), ", wanted is ", kinds_[slot].shape.DebugString());
    }
    return tensorflow::Status();
  }

  Node node(OpKernelConstruction* context, const tensorflow::NodeDef& definition, int slots) {
    Node node;
    node.name = definition.name();
    plain::Kinds given, made;
    for (const std::string& text : definition.input()) {
      const int slot = std::stoi(text);
      if (slot < 0 || slot >= slots) return context->SetStatus(InvalidArgument(definition.name(), " reads slot ", slot)), std::move(node);
      node.inputs.push_back(slot);
      given.push_back(kinds_[slot]);
    }
    node.first = slots;
    if (definition.op() == "AssignVariableOp") {
      node.assigns = true;
      return node;
    }
    tensorflow::Status status;
    node.kernel = tensorflow::CreateOpKernel(tensorflow::DeviceType(tensorflow::DEVICE_CPU), &device_, device_.GetAllocator(AllocatorAttributes()),
                                             definition, context->graph_def_version(), &status);
    if (!status.ok()) return context->SetStatus(status), std::move(node);
    node.outputs = node.kernel->num_outputs();
    if (slots + node.outputs > (int)kinds_.size()) return context->SetStatus(InvalidArgument("too few slots")), std::move(node);
    made.assign(kinds_.begin() + slots, kinds_.begin() + slots + node.outputs);
    node.plain = plain::direct(definition, given, made);
    node.direct = node.plain ? node.plain.get() : dynamic_cast<const Direct*>(node.kernel.get());
    const bool usable = node.direct || (node.kernel->AsAsync() == nullptr && node.kernel->num_inputs() == (int)node.inputs.size());
    if (!usable) context->SetStatus(InvalidArgument(definition.op(), " cannot be called here"));
    return node;
  }

  // Where each slot lies: what is read by nobody any more makes room. Variables, and what changes from step to step, stay.
  void plan() {
    const int slots = kinds_.size(), always = nodes_.size();
    std::vector<int> last(slots, -1);
    for (int n = 0; n < (int)nodes_.size(); ++n) {
      for (int input : nodes_[n].inputs) last[memory_[input]] = n;
      for (int output = 0; output < nodes_[n].outputs; ++output) last[memory_[nodes_[n].first + output]] = n;
    }
    MemoryPlan memory;
    offsets_.assign(slots, 0);
    for (int slot = 0; slot < fixed_; ++slot) offsets_[slot] = memory.take(bytes(slot), always);
    for (int n = 0; n < (int)nodes_.size(); ++n) {
      for (int output = 0; output < nodes_[n].outputs; ++output) {
        const int slot = nodes_[n].first + output;
        if (memory_[slot] == slot) offsets_[slot] = memory.take(bytes(slot), last[slot]);
      }
      memory.free_after(n);
    }
    arena_ = memory.bytes();
    is_tensor_.assign(slots, false);
    for (const Node& node : nodes_)
      if (!node.direct && !node.assigns)
        for (int input : node.inputs) is_tensor_[input] = true;
  }

  int64_t bytes(int slot) const { return kinds_[slot].shape.num_elements() * tensorflow::DataTypeSize(kinds_[slot].type); }

  mutable each::Device device_;
  int count_, models_, fixed_ = 0, given_ = 0;  // fixed_: slots of variables and data; given_: of constants too
  int64_t arena_ = 0;
  std::vector<int> memory_;
  std::vector<bool> own_data_;
  plain::Kinds kinds_;
  std::vector<Node> nodes_;
  std::vector<int64_t> offsets_;
  std::vector<bool> is_tensor_;
};
REGISTER_KERNEL_BUILDER(Name("HgqcProgram").Device(tensorflow::DEVICE_CPU), ProgramOp);

}  // namespace program
}  // namespace hgqc
