// product.cuh: a block's tile of a matrix product, P[m,n] = sum over k of A[m,k] B[k,n], summed in registers.
//
// Compile-time parameters: the block computes TILE_M x TILE_N products, TILE_K terms at a time; a thread keeps
// THREAD_M x THREAD_N of them. THREADS follows. Panels of A and B go through shared memory, two of each: while one
// is multiplied, the next is on its way to registers, so a step costs one barrier.
//
// Order of summation: k ascending within a block, then blocks of the split in ascending order: fixed, so results are
// the same bits in every run.
// Source  register tiles and panels: Volkov & Demmel, Benchmarking GPUs to tune dense linear algebra (2008).
#pragma once
#include "common.cuh"
#include "matrix.cuh"

constexpr int THREADS_M = TILE_M / THREAD_M;
constexpr int THREADS_N = TILE_N / THREAD_N;
constexpr int THREADS = THREADS_M * THREADS_N;

// A thread's rows and columns come in groups of neighbours, read from shared memory as one word. The groups lie a
// stripe apart, so that neighbouring threads read neighbouring words.
constexpr int GROUP_M = THREAD_M < 4 ? THREAD_M : 4;
constexpr int GROUP_N = 4;
constexpr int PANEL_PAD = 4;  // spreads a panel's columns over the banks when it is filled transposed; keeps 16 bytes

struct Products {
    float at[THREAD_M][THREAD_N];
};

// Row, inside the tile, of this thread's i-th row of products; and the column of its j-th.
__device__ __forceinline__ int tile_row(int i) {
    return (i / GROUP_M) * (GROUP_M * THREADS_M) + (threadIdx.x / THREADS_N) * GROUP_M + i % GROUP_M;
}
__device__ __forceinline__ int tile_column(int j) {
    return (j / GROUP_N) * (GROUP_N * THREADS_N) + (threadIdx.x % THREADS_N) * GROUP_N + j % GROUP_N;
}

enum Direction { K_ALONG_ROWS, K_ALONG_COLUMNS };  // where k counts in the matrix as stored: (x, k) or (k, x)

// Carries panels of TILE_K x WIDTH numbers from a matrix to shared memory, four at a time. Between `fetch` and `store`
// a panel is in registers, as it lies in memory: whatever looked at a number in between would wait for it.
template <int WIDTH, Direction DIRECTION, class Source>
struct PanelCarrier {
    static constexpr int READS = WIDTH * TILE_K / 4;
    static constexpr int READS_PER_THREAD = (READS + THREADS - 1) / THREADS;
    using Panel = float[TILE_K][WIDTH + PANEL_PAD];

    const Source& source;
    const int first_x;
    int places[READS_PER_THREAD];  // of the rows to be fetched next
    typename Source::Four staged[READS_PER_THREAD];

    __device__ __forceinline__ PanelCarrier(const Source& source, int first_k, int first_x)
            : source(source), first_x(first_x) {
        find_rows(first_k);
    }

    // Position inside the panel of this thread's i-th read; its four lie in the direction of the matrix as stored.
    static __device__ __forceinline__ void position(int i, int& k, int& x) {
        const int read = threadIdx.x + i * THREADS;
        if constexpr (DIRECTION == K_ALONG_ROWS) {
            k = read % (TILE_K / 4) * 4;
            x = read / (TILE_K / 4);
        } else {
            k = read / (WIDTH / 4);
            x = read % (WIDTH / 4) * 4;
        }
    }

    static __device__ __forceinline__ bool mine(int i) {
        return READS % THREADS == 0 || threadIdx.x + i * THREADS < READS;
    }

    __device__ __forceinline__ void find_rows(int first_k) {
#pragma unroll
        for (int i = 0; i < READS_PER_THREAD; ++i) {
            int k, x;
            position(i, k, x);
            places[i] = source.place(DIRECTION == K_ALONG_ROWS ? first_x + x : first_k + k);
        }
    }

    // Where k counts the rows, the next panel's are found a panel ahead: they may stand in memory themselves.
    __device__ __forceinline__ void fetch(int first_k) {
#pragma unroll
        for (int i = 0; i < READS_PER_THREAD; ++i) {
            int k, x;
            position(i, k, x);
            const int column = DIRECTION == K_ALONG_ROWS ? first_k + k : first_x + x;
            if (mine(i)) staged[i] = source.fetch(places[i], column);
        }
        if constexpr (DIRECTION == K_ALONG_COLUMNS) find_rows(first_k + TILE_K);
    }

    // The panel that was fetched from first_k on; beyond the last k, 0. Beyond the last x it does not matter.
    __device__ __forceinline__ void store(Panel& panel, int first_k) const {
#pragma unroll
        for (int i = 0; i < READS_PER_THREAD; ++i) {
            if (!mine(i)) continue;
            int k, x;
            position(i, k, x);
            const int column = DIRECTION == K_ALONG_ROWS ? first_k + k : first_x + x;
            const bool inside = first_k + k < (DIRECTION == K_ALONG_ROWS ? source.columns : source.rows);
            const float4 v = source.values(staged[i], inside, column);
            if constexpr (DIRECTION == K_ALONG_ROWS) {
                panel[k][x] = v.x;
                panel[k + 1][x] = v.y;
                panel[k + 2][x] = v.z;
                panel[k + 3][x] = v.w;
            } else {
                *reinterpret_cast<float4*>(&panel[k][x]) = v;
            }
        }
    }
};

// Adds to `products` the TILE_K terms of two panels.
template <class PanelA, class PanelB>
__device__ __forceinline__ void multiply_panels(const PanelA& a_panel, const PanelB& b_panel, Products& products) {
#pragma unroll
    for (int step = 0; step < TILE_K; ++step) {
        float a_part[THREAD_M], b_part[THREAD_N];
#pragma unroll
        for (int i = 0; i < THREAD_M; ++i) a_part[i] = a_panel[step][tile_row(i)];
#pragma unroll
        for (int j = 0; j < THREAD_N; ++j) b_part[j] = b_panel[step][tile_column(j)];
#pragma unroll
        for (int i = 0; i < THREAD_M; ++i) {
#pragma unroll
            for (int j = 0; j < THREAD_N; ++j) {
                products.at[i][j] = fmaf(a_part[i], b_part[j], products.at[i][j]);
            }
        }
    }
}

// Adds to `products` the terms k in [first_k, last_k) of the tile at (first_m, first_n).
// A_DIRECTION: A as stored is (m, k) or (k, m); B_DIRECTION: B as stored is (n, k) or (k, n).
template <Direction A_DIRECTION, Direction B_DIRECTION, class A, class B>
__device__ __forceinline__ void multiply_tile(
        const A& a, const B& b, int first_m, int first_n, int first_k, int last_k, Products& products) {
    using CarrierA = PanelCarrier<TILE_M, A_DIRECTION, A>;
    using CarrierB = PanelCarrier<TILE_N, B_DIRECTION, B>;
    __shared__ __align__(16) typename CarrierA::Panel a_panels[2];
    __shared__ __align__(16) typename CarrierB::Panel b_panels[2];
    if (first_k >= last_k) return;  // the whole block: the last batch is too small for all shares
    CarrierA carrier_a(a, first_k, first_m);
    CarrierB carrier_b(b, first_k, first_n);

    carrier_a.fetch(first_k);
    carrier_b.fetch(first_k);
    carrier_a.store(a_panels[0], first_k);
    carrier_b.store(b_panels[0], first_k);
    __syncthreads();

    // A round has no condition: with one around the reads, the compiler would move them after the multiply-adds, to
    // where their numbers are stored. So the last panel has its own multiply-adds.
    int current = 0;
    for (int next = first_k + TILE_K; next < last_k; next += TILE_K) {
        // The wider reads first: the compiler puts off what takes more registers.
        if constexpr (sizeof(typename A::Four) >= sizeof(typename B::Four)) carrier_a.fetch(next);
        carrier_b.fetch(next);
        if constexpr (sizeof(typename A::Four) < sizeof(typename B::Four)) carrier_a.fetch(next);
        multiply_panels(a_panels[current], b_panels[current], products);
        current ^= 1;  // the other panels were last read before the previous barrier
        carrier_a.store(a_panels[current], next);
        carrier_b.store(b_panels[current], next);
        __syncthreads();
    }
    multiply_panels(a_panels[current], b_panels[current], products);
}

// The four products of a thread that lie side by side in row i, from column j on.
__device__ __forceinline__ float4 four_products(const Products& products, int i, int j) {
    const float* at = &products.at[i][j];
    return make_float4(at[0], at[1], at[2], at[3]);
}

// Sums the tile over the blocks that split k among them (gridDim.z). Returns true in the one block, the last to
// arrive, that holds the whole sum afterwards; the others are done.
//
//   partials  workspace for gridDim.z x tiles x TILE_M x TILE_N floats, where the blocks leave their shares
//   arrivals  one counter a tile, 0 before the launch and again after it
__device__ __forceinline__ bool sum_over_split(float* partials, unsigned* arrivals, Products& products) {
    if (gridDim.z == 1) return true;
    const int tiles = gridDim.x * gridDim.y;
    const int tile = blockIdx.y * gridDim.x + blockIdx.x;
    // Fours of a thread lie THREADS fours apart: neighbouring threads, neighbouring memory.
    constexpr int FOURS = THREAD_M * THREAD_N / 4;
    const size_t from_share_to_share = (size_t)tiles * FOURS * THREADS;
    float4* shares = reinterpret_cast<float4*>(partials) + (size_t)tile * FOURS * THREADS + threadIdx.x;
    float4* mine = shares + blockIdx.z * from_share_to_share;
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i) {
#pragma unroll
        for (int j = 0; j < THREAD_N; j += 4) {
            __stcg(mine + (i * THREAD_N + j) / 4 * THREADS, four_products(products, i, j));
        }
    }

    __shared__ bool last;
    __syncthreads();  // before thread 0's fence, which so covers the shares of the whole block
    if (threadIdx.x == 0) {
        __threadfence();  // the share is visible to all before the arrival is
        last = atomicAdd(&arrivals[tile], 1u) == gridDim.z - 1;
        if (last) {
            arrivals[tile] = 0;
            __threadfence();  // the other shares are read after their arrivals
        }
    }
    __syncthreads();
    if (!last) return false;

    // Share by share, so that all of a share's numbers are on their way at once; of small tiles, several shares'.
    constexpr int SHARES_AT_ONCE = FOURS < 8 ? 8 / FOURS : 1;
    products = Products{};
#pragma unroll SHARES_AT_ONCE
    for (unsigned z = 0; z < gridDim.z; ++z) {
        const float4* share = shares + z * from_share_to_share;
#pragma unroll
        for (int four = 0; four < FOURS; ++four) {
            const float4 part = __ldcg(share + four * THREADS);
            float* at = &products.at[four * 4 / THREAD_N][four * 4 % THREAD_N];
            at[0] += part.x, at[1] += part.y, at[2] += part.z, at[3] += part.w;
        }
    }
    return true;
}

// First and last k of this block's share: whole panels, so that only the last share is ragged.
__device__ __forceinline__ int first_of_share(int terms) {
    const int panels = (terms + TILE_K - 1) / TILE_K;
    return (int)((long long)panels * blockIdx.z / gridDim.z) * TILE_K;
}
__device__ __forceinline__ int last_of_share(int terms) {
    const int panels = (terms + TILE_K - 1) / TILE_K;
    return (int)((long long)panels * (blockIdx.z + 1) / gridDim.z) * TILE_K;
}
