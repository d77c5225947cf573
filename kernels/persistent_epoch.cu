// persistent_epoch.cu: many updates in one launch. Weights and optimizer state stay on the chip, and blocks give one
// another nothing but activations. docs/persistent.md has the picture, the storage and the bound.
//
//   for every batch:  forward through the layers, softmax cross-entropy, backward, one optimizer step of every weight
//
// Arrays  images, targets: as in dense_forward.cu and softmax_cross_entropy.cu, gathered through order (examples,).
//         weights_in and slots_in are read at the start; weights_out and slots_out are written at the end, if all went
//         well (persistent_block.cuh has their layout). constants: optimizer.cuh.
//         packets, status, patience: exchange.cuh. losses (examples,) float32 and hits (examples,) uint8 are written in
//         the epoch's order.
// Launch  cooperative, BLOCKS blocks of THREADS threads, SHARED_FLOATS floats of dynamic shared memory; updates
//         first_update to last_update - 1 of the epoch. Where an epoch is cut into launches changes no bit.
// Range   at least one hidden layer, BLOCKS at most the units of the narrowest, at most BATCH examples a batch.
// Cost    batch 1, 784-500-500-10, Adam, 125 blocks: 29,000 multiply-adds and 12,000 optimizer steps a block, each a
//         root and a quotient: 1,500 cycles of the units for them, of which two thirds pass while blocks wait for one
//         another; 2 exchanges of 500 packets. Bound by latency: about 2.7 us an update is expected of an H100. The
//         update is some 27 KB of instructions: everything is written out, and at batch 1 no loop over examples is.
// Residency  at least 1 block an SM.
#include "phases.cuh"
#include "persistent_block.cuh"

// An update of the epoch: its examples and its step.
struct Update {
    int number;
    Batch batch;
    Rule rule;

    __device__ __forceinline__ int rows() const { return BATCH == 1 ? 1 : batch.rows; }
};

// The data of an epoch.
struct Epoch {
    const InputElement* images;
    const Target* targets;
    const int* order;
    int batch_size, examples;
    const float* constants;
    float* losses;
    unsigned char* hits;

    __device__ __forceinline__ Update update(int number) const {
        return {number, batch_at(number, batch_size, examples), read_rule(constants, number)};
    }

    __device__ __forceinline__ InputElement input(const Update& update, int example, int column) const {
        const int place = column * THREADS + threadIdx.x;
        if (place >= INPUTS) return 0;
        return images[(size_t)order[update.batch.first + example] * padded(INPUTS) + place];
    }
};

// An update's inputs and targets on their way from global to shared memory: asked for early, put down late.
struct Fetched {
    static constexpr int WORDS = STAGED ? ceil_div(BATCH * ROW_WORDS, THREADS) : 1;
    static constexpr int TARGETS = ceil_div(BATCH * TARGET_SIZE, THREADS);

    unsigned words[WORDS];
    Target targets[TARGETS];

    __device__ __forceinline__ void ask(const Epoch& epoch, const Update& update) {
        const unsigned* images = reinterpret_cast<const unsigned*>(epoch.images);
#pragma unroll
        for (int i = 0; STAGED && i < WORDS; ++i) {
            const int word = i * THREADS + threadIdx.x, example = word / ROW_WORDS;
            if (example < update.rows()) {
                words[i] = images[(size_t)epoch.order[update.batch.first + example] * ROW_WORDS + word % ROW_WORDS];
            }
        }
#pragma unroll
        for (int i = 0; i < TARGETS; ++i) {
            const int place = i * THREADS + threadIdx.x, example = place / TARGET_SIZE;
            if (example < update.rows()) {
                const int number = epoch.order[update.batch.first + example];
                targets[i] = targets_of(epoch.targets, number, CLASSES)[place % TARGET_SIZE];
            }
        }
    }

    __device__ __forceinline__ void keep(const Block& block, const Update& update) const {
        unsigned* inputs = reinterpret_cast<unsigned*>(block.inputs.of(update.number).elements);
#pragma unroll
        for (int i = 0; STAGED && i < WORDS; ++i) {
            const int word = i * THREADS + threadIdx.x;
            if (word < update.rows() * ROW_WORDS) inputs[word] = words[i];
        }
#pragma unroll
        for (int i = 0; i < TARGETS; ++i) {
            const int place = i * THREADS + threadIdx.x;
            if (place < update.rows() * TARGET_SIZE) block.targets.of(update.number).elements[place] = targets[i];
        }
    }
};

__device__ __forceinline__ float input(const Block& block, const Epoch& epoch, const Update& update, int example, int column) {
    return STAGED ? block.inputs.of(update.number)(example, column) : epoch.input(update, example, column);
}

// activations(layer) of this block's neurons = activation(sums + biases); published, and kept for the way back.
template <int LAYER>
__device__ __forceinline__ void activate_own(Block& block, const Exchange& exchange, const Update& update) {
    HiddenLayer<LAYER>& layer = block.layer<LAYER>();
#pragma unroll 1
    for (int i = threadIdx.x; i < update.rows() * layer.OWNED; i += THREADS) {
        const int example = i / layer.OWNED, row = i % layer.OWNED;
        if (row >= count_owned<LAYER>()) continue;
        const float sum = LAYER == 1 ? scaled_input_sum(block.sums.total(i)) : block.sums.total(i);
        const float y = activate<activation_of(LAYER)>(sum + layer.biases[row]);
        layer.own_activations.of(update.number)(example, row) = y;
        exchange.publish(forward_exchange(LAYER), example, first_owned<LAYER>() + row, y);
    }
}

template <int LAYER>
__device__ __forceinline__ void receive(
        const Exchange& exchange, int number, int examples, const Rows<owned(LAYER)>& own, const Columns<LAYER>& whole) {
    if constexpr (BLOCKS > 1) {
        exchange.receive<LAYER>(number, examples, [&](int example, int column, float value) { whole(example, column) = value; });
    } else {  // the block has them all
        __syncthreads();
        for (int example = 0; example < examples; ++example) {
#pragma unroll
            for (int column = 0; column < columns(LAYER); ++column) {
                const int neuron = column * THREADS + threadIdx.x;
                if (neuron < width(LAYER)) whole(example, column) = own(example, neuron);
            }
        }
    }
}

// Logits, losses and the logits' gradients, by every block for itself, a warp an example.
__device__ __forceinline__ void output_and_loss(Block& block, const Epoch& epoch, const Update& update) {
    OutputLayer& output = block.output;
    const int lane = threadIdx.x % 32, rows = update.rows();
#pragma unroll 1
    for (int example = threadIdx.x / 32; example < rows; example += WARPS) {
#pragma unroll 1
        for (int c = lane; c < CLASSES; c += 32) {
            output.logits(example, c) = block.sums.total(example * CLASSES + c) + output.biases[c];
        }
        __syncwarp();
        const RowLoss result = row_loss(
            &output.logits(example, 0), &block.targets.of(update.number)(example, 0), CLASSES, rows,
            &output.gradients(example, 0), CLASSES, lane);
        if (blockIdx.x == 0 && lane == 0) {
            epoch.losses[update.batch.first + example] = result.loss;
            epoch.hits[update.batch.first + example] = result.hit;
        }
    }
    __syncthreads();
}

// Gradients of the last hidden layer: of all its neurons, since the whole output layer is in the block.
__device__ __forceinline__ void backward_from_output(Block& block, int examples) {
    HiddenLayer<HIDDEN>& layer = block.layer<HIDDEN>();
    for (int example = 0; example < examples; ++example) {
#pragma unroll
        for (int column = 0; column < columns(HIDDEN); ++column) {
            const float sum = block.output.weights.sum_of_rows(
                column, [&](int row) { return block.output.gradients(example, row); });
            const float gradient = sum * activation_derivative<activation_of(HIDDEN)>(layer.activations(example, column));
            const int row = column * THREADS + threadIdx.x - first_owned<HIDDEN>();
            if (0 <= row && row < count_owned<HIDDEN>()) layer.own_gradients(example, row) = gradient;
            if constexpr (HIDDEN > 1) layer.gradients(example, column) = gradient;
        }
    }
}

// Gradients of this block's neurons from the sums of the layer above; published where a layer below needs them all.
template <int LAYER>
__device__ __forceinline__ void backward_own(Block& block, const Exchange& exchange, const Update& update) {
    HiddenLayer<LAYER>& layer = block.layer<LAYER>();
#pragma unroll 1
    for (int i = threadIdx.x; i < update.rows() * layer.OWNED; i += THREADS) {
        const int example = i / layer.OWNED, row = i % layer.OWNED;
        if (row >= count_owned<LAYER>()) continue;
        const float y = layer.own_activations.of(update.number)(example, row);
        const float gradient = block.sums.total(i) * activation_derivative<activation_of(LAYER)>(y);
        layer.own_gradients(example, row) = gradient;
        if (LAYER > 1) exchange.publish(backward_exchange(LAYER), example, first_owned<LAYER>() + row, gradient);
    }
}

// Optimizer steps. `inputs` are the activations of the layer below.
template <int LAYER, class Inputs>
__device__ __forceinline__ void step_incoming(Block& block, const Update& update, Inputs inputs) {
    HiddenLayer<LAYER>& layer = block.layer<LAYER>();
    const float scale = LAYER == 1 ? scaled_input_sum(1.0f) : 1.0f;
    layer.incoming.step(update.rows(), layer.own_gradients, inputs, scale, update.rule);
    layer.biases.step(update.rows(), layer.own_gradients, update.rule);
}

template <int LAYER>
__device__ __forceinline__ void step_outgoing(Block& block, const Update& update) {
    HiddenLayer<LAYER>& layer = block.layer<LAYER>();
    const auto gradients = block.layer<LAYER + 1>().gradients;
    layer.outgoing.step(update.rows(), layer.own_activations.of(update.number), gradients, 1.0f, update.rule);
}

__device__ __forceinline__ void step_output(Block& block, const Update& update) {
    OutputLayer& output = block.output;
    output.weights.step(update.rows(), output.gradients, block.layer<HIDDEN>().activations, 1.0f, update.rule);
    output.biases.step(update.rows(), output.gradients, update.rule);
}

// The steps of an update that wait until the next one has time for them: while the neurons of a hidden layer are on
// their way between the blocks, those of the weights that are needed next.
template <int LAYER>
__device__ __forceinline__ void steps_while_waiting_for(Block& block, const Update& update) {
    if constexpr (LAYER < HIDDEN) {
        step_incoming<LAYER + 1>(block, update, block.layer<LAYER>().activations);
    } else {
        step_output(block, update);
        upward<1, HIDDEN - 1>([&](auto number) { step_outgoing<number.value>(block, update); });
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) persistent_epoch(
        const InputElement* __restrict__ images, const Target* __restrict__ targets, const int* __restrict__ order,
        int batch_size, int examples, int first_update, int last_update,
        const float* __restrict__ weights_in, const float* __restrict__ slots_in,
        float* __restrict__ weights_out, float* __restrict__ slots_out,
        const float* __restrict__ constants,
        Packet* packets, int* status, int patience, float* __restrict__ losses, unsigned char* __restrict__ hits) {
    DYN_SHARED(float, memory);
    Block block(memory);
    load(block, {const_cast<float*>(weights_in), const_cast<float*>(slots_in)});
    const Epoch epoch{images, targets, order, batch_size, examples, constants, losses, hits};
    Update update = epoch.update(first_update), before{};  // nothing was before: its steps must not be made
    Fetched fetched;
    fetched.ask(epoch, update);
    fetched.keep(block, update);
    __syncthreads();

    for (int number = first_update; number < last_update; ++number) {
        const Exchange exchange{packets, status, patience, block.gave_up, number, (unsigned)(number - first_update) + 1};
        const int rows = update.rows();
        const bool more = number + 1 < last_update;
        const Update next = epoch.update(more ? number + 1 : number);
        const auto x = [&](int example, int column) { return input(block, epoch, update, example, column); };

        upward<1, HIDDEN>([&](auto layer) {
            constexpr int LAYER = layer.value;
            repeat<FORWARD_TIMES>([&] {
                if constexpr (LAYER == 1) {
                    block.layer<1>().incoming.put_products(rows, x, block.sums);
                } else {
                    block.layer<LAYER>().incoming.put_products(rows, block.layer<LAYER - 1>().activations, block.sums);
                }
            });
            block.sums.finish();
            activate_own<LAYER>(block, exchange, update);
            if (LAYER == 1) repeat<STAGE_TIMES>([&] { fetched.ask(epoch, next); });  // at the end its own once more
            if (number > first_update) repeat<STEPS_TIMES>([&] { steps_while_waiting_for<LAYER>(block, before); });
            receive<LAYER>(exchange, forward_exchange(LAYER), rows,
                           block.layer<LAYER>().own_activations.of(update.number), block.layer<LAYER>().activations);
            if (LAYER == 1 && more) fetched.keep(block, next);
        });

        repeat<FORWARD_TIMES>(
            [&] { block.output.weights.put_products(rows, block.layer<HIDDEN>().activations, block.sums); });
        block.sums.finish();
        repeat<LOSS_TIMES>([&] { output_and_loss(block, epoch, update); });

        repeat<BACKWARD_TIMES>([&] { backward_from_output(block, rows); });
        downward<HIDDEN - 1, 1>([&](auto layer) {
            constexpr int LAYER = layer.value;
            repeat<BACKWARD_TIMES>([&] {
                block.layer<LAYER>().outgoing.put_products(rows, block.layer<LAYER + 1>().gradients, block.sums);
            });
            block.sums.finish();
            backward_own<LAYER>(block, exchange, update);
            if constexpr (LAYER > 1) {
                receive<LAYER>(exchange, backward_exchange(LAYER), rows,
                               block.layer<LAYER>().own_gradients, block.layer<LAYER>().gradients);
            }
        });
        __syncthreads();  // own gradients are there
        if (*block.gave_up) return;
        repeat<STEPS_TIMES>([&] { step_incoming<1>(block, update, x); });
        before = update;
        update = next;
    }

    upward<1, HIDDEN>([&](auto layer) {
        constexpr int LAYER = layer.value;
        repeat<STEPS_TIMES>([&] { steps_while_waiting_for<LAYER>(block, before); });
    });
    __syncthreads();
    store(block, {weights_out, slots_out});
}
