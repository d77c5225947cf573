// persistent_epoch.cu: many updates in one launch. Weights and optimizer state stay on the chip; blocks exchange only
// activations and gradients. docs/persistent.md has the picture, the storage and the bound.
//
//   for every batch:  forward through the layers, softmax cross-entropy, backward, one optimizer step of every weight
//
// Arrays  images, targets, weights: as in dense_forward.cu and softmax_cross_entropy.cu, gathered through order
//         (examples,). weights_in and slots_in are read at the start; weights_out and slots_out are written at the end,
//         if all went well (persistent_block.cuh has their layout). constants, and twice_l2 (layers,) if -DL2=1:
//         optimizer.cuh. packets, status, patience: exchange.cuh. losses (examples,) float32 and correct (examples,)
//         uint8 are written in the epoch's order. drops, if -DDROPOUT=1: dropout.cuh; -DDROPPED=1,0 says which hidden
//         layers have dropout.
// Launch  cooperative where the GPU has such launches; BLOCKS blocks of THREADS threads, SHARED_FLOATS floats of
//         dynamic shared memory; updates first_update to last_update - 1 of the epoch. Where an epoch is split into
//         launches changes no bit.
// Range   at least one hidden layer, BLOCKS at most the units of the narrowest, at most BATCH examples per batch.
// Cost    batch 1, 784-500-500-10, Adam, 125 blocks: 29,000 multiply-adds and 13,312 optimizer steps per block, each
//         with a square root and half or all of a quotient: 1,380 cycles in the special function units, most of them
//         while blocks wait for one another; 2 exchanges of 500 packets. Bound by latency: an H100 is expected to take
//         about 2.6 us per update. An update has 23 KB of instructions at batch size 1, 48 KB at 10.
// Residency  RESIDENT_BLOCKS, 1 or 2, blocks an SM.
#include "persistent_output.cuh"

// Calls work(i) for i from 0 to COUNT - 1, one thread each.
template <int COUNT, class Work>
__device__ __forceinline__ void spread(Work work) {
    if constexpr (COUNT <= THREADS) {
        if (threadIdx.x < COUNT) work(threadIdx.x);
    } else {
#pragma unroll 1
        for (int i = threadIdx.x; i < COUNT; i += THREADS) work(i);
    }
}

// activations(layer) of this block's neurons = activation(sums); published, and kept for the backward pass.
template <int LAYER>
__device__ __forceinline__ void activate_own(Block& block, const Exchange& exchange, const Update& update) {
    constexpr int OWNED = owned(LAYER);
    HiddenLayer<LAYER>& layer = block.layer<LAYER>();
    spread<COPIES * BATCH * OWNED>([&](int i) {
        const int copy = i / (BATCH * OWNED), number = i % (BATCH * OWNED);
        const int example = number / OWNED, row = number % OWNED;
        if (row >= count_owned<LAYER>()) return;
        const float sum = block.sums.total(number);
        float y = activate<activation_of(LAYER)>(LAYER == 1 ? scaled_input_sum(sum) : sum);
#if DROPOUT
        if (dropped(LAYER)) {
            y *= dropout_of<LAYER>(update).factor(first_owned<LAYER>() + row, update.batch.first + example);
        }
#endif
        exchange.publish(copy, forward_exchange(LAYER), example, first_owned<LAYER>() + row, y);
        if (copy == 0) layer.own_activations.of(update.turn).at(example, row) = y;
    });
}

// Receives the whole layer's numbers from all blocks; meanwhile() runs while they are on their way.
template <int LAYER, class Meanwhile, class Take>
__device__ __forceinline__ void receive(
        const Exchange& exchange, int number, const Rows<owned(LAYER)>& own, Meanwhile meanwhile, Take take) {
    if constexpr (BLOCKS > 1) {
        exchange.receive<LAYER>(number, meanwhile, take);
    } else {  // the block has them all
        meanwhile();
        __syncthreads();
#pragma unroll 1
        for (int example = 0; example < BATCH; ++example) {
            float numbers[columns(LAYER)];
#pragma unroll
            for (int column = 0; column < columns(LAYER); ++column) {
                const int neuron = column_place(columns(LAYER), column);
                numbers[column] = neuron < width(LAYER) ? own.at(example, neuron) : 0.0f;
            }
            take(example, numbers);
        }
    }
}

#if DROPOUT
// The derivative of a neuron's activation, times what dropout multiplies it by, from the activation as published.
template <int LAYER>
__device__ __forceinline__ float dropped_derivative(const Update& update, int example, int neuron, float y) {
    if (!dropped(LAYER)) return activation_derivative<activation_of(LAYER)>(y);
    const Dropout dropout = dropout_of<LAYER>(update);
    const float factor = dropout.factor(neuron, update.batch.first + example);
    return factor * activation_derivative<activation_of(LAYER)>(undropped(y, dropout.scale()));
}
#endif

// Adds the 1 after the numbers of a layer.
template <int LAYER>
__device__ __forceinline__ void with_one(float (&numbers)[columns(LAYER)]) {
#pragma unroll
    for (int column = 0; column < columns(LAYER); ++column) {
        if (column_place(columns(LAYER), column) == width(LAYER)) numbers[column] = one_after(LAYER);
    }
}

// Whether one of this thread's columns of a layer is a neuron of this block.
template <int LAYER>
__device__ __forceinline__ bool has_own_columns() {
    bool some = false;
#pragma unroll
    for (int column = 0; column < columns(LAYER); ++column) {
        const int row = column_place(columns(LAYER), column) - first_owned<LAYER>();
        some |= 0 <= row && row < count_owned<LAYER>();
    }
    return some;
}

// Gradients of the last hidden layer; possible because the block has the whole output layer. For all its neurons if
// they are needed here, otherwise for the block's own.
__device__ __forceinline__ void backward_from_output(Block& block, const Update& update) {
    constexpr int COLUMNS = columns(HIDDEN);
    HiddenLayer<HIDDEN>& layer = block.layer<HIDDEN>();
    constexpr bool ALL = HiddenLayer<HIDDEN>::KEEPS_GRADIENTS;
    if (!ALL && !has_own_columns<HIDDEN>()) return;
#pragma unroll UNROLLED
    for (int example = 0; example < BATCH; ++example) {
        float numbers[CLASSES], y[COLUMNS], gradients[COLUMNS];
        block.output.gradients(example, numbers);
        layer.activations(example, y);
        block.output.weights.sum_rows(numbers, gradients);
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) {
            const int neuron = column_place(COLUMNS, column), row = neuron - first_owned<HIDDEN>();
#if DROPOUT
            gradients[column] *= dropped_derivative<HIDDEN>(update, example, neuron, y[column]);
#else
            gradients[column] *= activation_derivative<activation_of(HIDDEN)>(y[column]);
#endif
            if (neuron >= width(HIDDEN)) gradients[column] = 0.0f;
            if (0 <= row && row < count_owned<HIDDEN>()) {
                const float scale = HIDDEN == 1 ? scaled_input_sum(1.0f) : 1.0f;
                layer.own_gradients.at(example, row) = gradients[column] * scale;
            }
        }
        if constexpr (ALL) layer.gradients.put(example, gradients);
    }
}

// The gradient of a neuron of this block, from the sums of the next layer. In layer 1, scaled like the inputs.
template <int LAYER>
__device__ __forceinline__ float own_gradient(
        const Block& block, const Update& update, const Rows<owned(LAYER)>& activations, int example, int row) {
#if DROPOUT
    const float derivative = dropped_derivative<LAYER>(
        update, example, first_owned<LAYER>() + row, activations.at(example, row));
    const float gradient = block.sums.total(example * owned(LAYER) + row) * derivative;
#else
    const float gradient = block.sums.total(example * owned(LAYER) + row)
        * activation_derivative<activation_of(LAYER)>(activations.at(example, row));
#endif
    return LAYER == 1 ? scaled_input_sum(gradient) : gradient;
}

// Gradients of this block's neurons; published if the previous layer needs them all.
template <int LAYER>
__device__ __forceinline__ void backward_own(Block& block, const Exchange& exchange, const Update& update) {
    constexpr int OWNED = owned(LAYER), PUBLISHED = HiddenLayer<LAYER>::KEEPS_GRADIENTS ? COPIES : 1;
    HiddenLayer<LAYER>& layer = block.layer<LAYER>();
    spread<PUBLISHED * BATCH * OWNED>([&](int i) {
        const int copy = i / (BATCH * OWNED), number = i % (BATCH * OWNED);
        const int example = number / OWNED, row = number % OWNED;
        if (row >= count_owned<LAYER>()) return;
        const float gradient = own_gradient<LAYER>(block, update, layer.own_activations.of(update.turn), example, row);
        if constexpr (HiddenLayer<LAYER>::KEEPS_GRADIENTS) {
            exchange.publish(copy, backward_exchange(LAYER), example, first_owned<LAYER>() + row, gradient);
        }
        if (copy == 0) layer.own_gradients.at(example, row) = gradient;
    });
}

// The exchange in which the next inputs are stored: the second, if registers can hold them that long.
constexpr int KEEP_LAYER = BATCH == 1 && HIDDEN > 1 ? 2 : 1;

// twice_l2 of the weights of a layer: 0 in the column of the bias.
template <int LAYER>
__device__ __forceinline__ auto penalty_into(const Update& update) {
#if L2
    return [&update](int column) {
        return column_place(columns(LAYER - 1), column) == width(LAYER - 1) ? 0.0f : update.twice_l2[LAYER - 1];
    };
#else
    return 0;  // never used
#endif
}

// The same where columns are units: their biases are elsewhere.
template <int LAYER>
__device__ __forceinline__ auto penalty_out_of(const Update& update) {
#if L2
    return [&update](int) { return update.twice_l2[LAYER]; };
#else
    return 0;
#endif
}

// This block's parts of the previous layer's gradients, for the blocks that own its neurons.
template <int LAYER>
__device__ __forceinline__ void publish_all_parts(Block& block, const Exchange& exchange) {
    HiddenLayer<LAYER + 1>& above = block.layer<LAYER + 1>();
#pragma unroll UNROLLED
    for (int example = 0; example < BATCH; ++example) {
        float numbers[owned(LAYER + 1)], parts[columns(LAYER)];
        above.own_gradients(example, numbers);
        above.incoming.sum_rows(numbers, parts);
        publish_parts<LAYER>(exchange, example, parts);
    }
}

// Optimizer steps of rows FIRST to LAST - 1. If weights between hidden layers are in two blocks, neighbours are not
// stepped together (slice.cuh).
template <int LAYER, int FIRST, int LAST>
__device__ __forceinline__ void step_incoming(Block& block, const Update& update) {
    if constexpr (FIRST < LAST) {
        HiddenLayer<LAYER>& layer = block.layer<LAYER>();
        layer.incoming.template step<!TWICE, FIRST, LAST>(
            layer.own_gradients, block.layer<LAYER - 1>().activations, penalty_into<LAYER>(update), update.rule);
    }
}

template <int LAYER>
__device__ __forceinline__ void step_outgoing(Block& block, const Update& update) {
    HiddenLayer<LAYER>& layer = block.layer<LAYER>();
    layer.outgoing.template step<false>(
        layer.own_activations.of(update.turn), block.layer<LAYER + 1>().gradients,
        penalty_out_of<LAYER>(update), update.rule);
}

template <int FIRST, int LAST>
__device__ __forceinline__ void step_output(Block& block, const Update& update) {
    if constexpr (FIRST < LAST) {
        block.output.weights.template step<true, FIRST, LAST>(
            block.output.gradients, block.layer<HIDDEN>().activations, penalty_into<OUTPUT>(update), update.rule);
    }
}

// The first layer's step, with the gradients of this block's neurons.
template <class X>
__device__ __forceinline__ void step_first(Block& block, const Update& update, X x) {
    constexpr int OWNED = owned(1);
    HiddenLayer<1>& layer = block.layer<1>();
    if constexpr (GRADIENTS_IN_EVERY_WARP) {  // one neuron per lane
        const int lane = threadIdx.x % 32, row = min(lane, OWNED - 1);
        const float sum = own_gradient<1>(block, update, layer.own_activations.of(update.turn), 0, row);
        const float own = row < count_owned<1>() ? sum : 0.0f;
        const auto gradients = [&](int, float (&numbers)[OWNED]) {
#pragma unroll
            for (int r = 0; r < OWNED; ++r) numbers[r] = __shfl_sync(ALL_LANES, own, r);
        };
        layer.incoming.template step<true>(gradients, x, penalty_into<1>(update), update.rule);
    } else {
        layer.incoming.template step<true>(layer.own_gradients, x, penalty_into<1>(update), update.rule);
    }
}

// Steps that are deferred to the next update: while a hidden layer's activations travel between the blocks, the weights
// that are needed next take their steps. One part before the packets are requested, because requesting them too early
// is useless, and one part while they are on their way. If weights between hidden layers are in one block, their steps
// are made in the same update, while gradients are on their way; the output layer's steps are then spread over all
// hidden layers.
__device__ constexpr int output_share(int number) { return CLASSES * number / (2 * HIDDEN); }

template <int LAYER>
__device__ __forceinline__ void steps_before_asking(Block& block, const Update& update) {
    if constexpr (!TWICE) {
        step_output<output_share(2 * LAYER - 2), output_share(2 * LAYER - 1)>(block, update);
    } else if constexpr (LAYER < HIDDEN) {
        step_incoming<LAYER + 1, 0, owned(LAYER + 1)>(block, update);
    } else {
        step_output<0, CLASSES / 2>(block, update);
    }
}
template <int LAYER>
__device__ __forceinline__ void steps_while_waiting(Block& block, const Update& update) {
    if constexpr (!TWICE) {
        step_output<output_share(2 * LAYER - 1), output_share(2 * LAYER)>(block, update);
    } else if constexpr (LAYER < HIDDEN) {
        step_outgoing<LAYER>(block, update);
    } else {
        step_output<CLASSES / 2, CLASSES>(block, update);
    }
}

// Receives the sums for the gradients of this block's neurons from all blocks; meanwhile the weights between this layer
// and the next take their step.
template <int LAYER>
__device__ __forceinline__ void gradients_from_parts(Block& block, const Exchange& exchange, const Update& update) {
    constexpr int ABOVE = LAYER + 1;
    __syncthreads();  // own gradients of the next layer are complete
    repeat<BACKWARD_TIMES>([&] { publish_all_parts<LAYER>(block, exchange); });
    repeat<STEPS_TIMES>([&] { step_incoming<ABOVE, 0, owned(ABOVE) / 2>(block, update); });
    const auto meanwhile = [&] {
        repeat<STEPS_TIMES>([&] { step_incoming<ABOVE, owned(ABOVE) / 2, owned(ABOVE)>(block, update); });
    };
    receive_parts<LAYER>(
        exchange, backward_exchange(LAYER), first_owned<LAYER>(), count_owned<LAYER>(), meanwhile, block.sums);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS) persistent_epoch(
        const InputElement* __restrict__ images, const Target* __restrict__ targets,
#if WEIGHTED
        const float* __restrict__ weights,
#endif
        const int* __restrict__ order,
        int batch_size, int examples, int first_update, int last_update,
        const float* __restrict__ weights_in, const float* __restrict__ slots_in,
        float* __restrict__ weights_out, float* __restrict__ slots_out,
        const float* __restrict__ constants,
#if L2
        const float* __restrict__ twice_l2,
#endif
#if DROPOUT
        const unsigned* __restrict__ drops,
#endif
#if MEMORY_FLOATS
        float* __restrict__ streamed,
#endif
        Packet* packets, int* status, int patience, float* __restrict__ losses, unsigned char* __restrict__ correct) {
#if !MEMORY_FLOATS
    constexpr float* streamed = nullptr;
#endif
    DYN_SHARED(float, memory);
    Block block(memory, streamed);
    load(block, {const_cast<float*>(weights_in), const_cast<float*>(slots_in)});
#if !WEIGHTED
    constexpr const float* weights = nullptr;
#endif
    Epoch epoch{
        images, targets, reinterpret_cast<const Target*>(weights), order, batch_size, examples,
        constants, losses, correct, first_update};
#if L2
    epoch.twice_l2 = twice_l2;
#endif
#if DROPOUT
    epoch.drops = drops;
#endif
    Update update = epoch.update(0), before{};  // there is no update before: its steps must not be made
    Fetched fetched;
    fetched.find(epoch, update);
    fetched.ask(epoch);
    fetched.keep(block, update);
    __syncthreads();

    const int updates = last_update - first_update;
    for (int turn = 0; turn < updates; ++turn) {
        const Exchange exchange{packets, status, patience, block.gave_up, first_update, (unsigned)turn + 1};
        const bool late = turn > 0;  // the previous update's deferred steps must be made
        const bool more = turn + 1 < updates;
        const Update next = epoch.update(more ? turn + 1 : turn);
        const auto x = [&](int example, float (&numbers)[columns(0)]) {
            input(block, epoch, update, example, numbers);
        };

        upward<1, HIDDEN>([&](auto counter) {
            constexpr int LAYER = counter.value;
            HiddenLayer<LAYER>& layer = block.layer<LAYER>();
            repeat<FORWARD_TIMES>([&] {
                if constexpr (LAYER == 1) {
                    layer.incoming.put_products(x, block.sums);
                } else {
                    layer.incoming.put_products(block.layer<LAYER - 1>().activations, block.sums);
                }
            });
            block.sums.finish();
            activate_own<LAYER>(block, exchange, update);
            if (LAYER == KEEP_LAYER && KEEP_LAYER > 1 && more) fetched.keep(block, next);
            if (LAYER == 1) repeat<STAGE_TIMES>([&] { fetched.find(epoch, next); });  // at the end, its own again
            if (late) repeat<STEPS_TIMES>([&] { steps_before_asking<LAYER>(block, before); });
            const auto meanwhile = [&] {
                if (LAYER == 1) repeat<STAGE_TIMES>([&] { fetched.ask(epoch); });
                if constexpr (LAYER == 1) block.layer<1>().incoming.fetch();
                if (late) repeat<STEPS_TIMES>([&] { steps_while_waiting<LAYER>(block, before); });
                if (LAYER == 1 && late) write_losses(block, epoch, before);
            };
            receive<LAYER>(
                exchange, forward_exchange(LAYER), layer.own_activations.of(update.turn), meanwhile,
                [&](int example, float (&numbers)[columns(LAYER)]) {
                    with_one<LAYER>(numbers);
                    layer.activations.put(example, numbers);
                });
            if (LAYER == KEEP_LAYER && KEEP_LAYER == 1 && more) fetched.keep(block, next);
        });

        repeat<FORWARD_TIMES>([&] {
            block.output.weights.put_products(block.layer<HIDDEN>().activations, block.sums);
        });
        block.sums.finish();
        repeat<LOSS_TIMES>([&] { output_and_loss(block, epoch, update); });

        repeat<BACKWARD_TIMES>([&] { backward_from_output(block, update); });
        downward<HIDDEN - 1, 1>([&](auto counter) {
            constexpr int LAYER = counter.value;
            HiddenLayer<LAYER>& layer = block.layer<LAYER>();
            if constexpr (TWICE) {
                repeat<BACKWARD_TIMES>([&] {
                    layer.outgoing.put_products(block.layer<LAYER + 1>().gradients, block.sums);
                });
            } else {
                gradients_from_parts<LAYER>(block, exchange, update);
            }
            block.sums.finish();
            if constexpr (LAYER > 1 || !GRADIENTS_IN_EVERY_WARP) backward_own<LAYER>(block, exchange, update);
            if constexpr (HiddenLayer<LAYER>::KEEPS_GRADIENTS) {
                receive<LAYER>(
                    exchange, backward_exchange(LAYER), layer.own_gradients, [] {},
                    [&](int example, float (&numbers)[columns(LAYER)]) { layer.gradients.put(example, numbers); });
            }
        });
        if constexpr (!GRADIENTS_IN_EVERY_WARP) __syncthreads();  // own gradients are complete
        // There is a barrier between this update's last wait and the next one's first, so all threads read the same.
        const bool lost = *block.gave_up;
        repeat<STEPS_TIMES>([&] { step_first(block, update, x); });
        if (lost) return;
        before = update;
        update = next;
    }

    upward<1, HIDDEN>([&](auto counter) {
        constexpr int LAYER = counter.value;
        repeat<STEPS_TIMES>([&] {
            steps_before_asking<LAYER>(block, before);
            steps_while_waiting<LAYER>(block, before);
        });
    });
    write_losses(block, epoch, before);
    __syncthreads();
    store(block, {weights_out, slots_out});
}
