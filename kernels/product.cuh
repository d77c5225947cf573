// product.cuh: a block's tile of a matrix product, P[m,n] = sum over k of A[m,k] B[k,n], summed in registers.
//
// Compile-time parameters: the block computes TILE_M x TILE_N products, TILE_K terms at a time; a thread keeps
// THREAD_M x THREAD_N of them. THREADS follows. Panels of A and B go through shared memory, two of each: while one
// is multiplied, the next is on its way through registers, so a step costs one barrier.
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

// Carries panels of TILE_K x WIDTH numbers from a matrix to shared memory, four at a time; between `fetch` and `store`
// a panel is in registers.
template <int WIDTH, Direction DIRECTION>
struct PanelCarrier {
    static constexpr int READS = WIDTH * TILE_K / 4;
    static constexpr int READS_PER_THREAD = (READS + THREADS - 1) / THREADS;
    using Panel = float[TILE_K][WIDTH + PANEL_PAD];

    float4 staged[READS_PER_THREAD];

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

    template <class Source>
    __device__ __forceinline__ void fetch(const Source& source, int first_k, int first_x) {
#pragma unroll
        for (int i = 0; i < READS_PER_THREAD; ++i) {
            if (!mine(i)) continue;
            int k, x;
            position(i, k, x);
            staged[i] = DIRECTION == K_ALONG_ROWS ? source.read(first_x + x, first_k + k)
                                                  : source.read(first_k + k, first_x + x);
        }
    }

    __device__ __forceinline__ void store(Panel& panel) const {
#pragma unroll
        for (int i = 0; i < READS_PER_THREAD; ++i) {
            if (!mine(i)) continue;
            int k, x;
            position(i, k, x);
            if constexpr (DIRECTION == K_ALONG_ROWS) {
                panel[k][x] = staged[i].x;
                panel[k + 1][x] = staged[i].y;
                panel[k + 2][x] = staged[i].z;
                panel[k + 3][x] = staged[i].w;
            } else {
                *reinterpret_cast<float4*>(&panel[k][x]) = staged[i];
            }
        }
    }
};

// Adds to `products` the terms k in [first_k, last_k) of the tile at (first_m, first_n).
// A_DIRECTION: A as stored is (m, k) or (k, m); B_DIRECTION: B as stored is (n, k) or (k, n).
template <Direction A_DIRECTION, Direction B_DIRECTION, class A, class B>
__device__ __forceinline__ void multiply_tile(
        const A& a, const B& b, int first_m, int first_n, int first_k, int last_k, Products& products) {
    using CarrierA = PanelCarrier<TILE_M, A_DIRECTION>;
    using CarrierB = PanelCarrier<TILE_N, B_DIRECTION>;
    __shared__ __align__(16) typename CarrierA::Panel a_panels[2];
    __shared__ __align__(16) typename CarrierB::Panel b_panels[2];
    CarrierA carrier_a;
    CarrierB carrier_b;

    carrier_a.fetch(a, first_k, first_m);
    carrier_b.fetch(b, first_k, first_n);
    carrier_a.store(a_panels[0]);
    carrier_b.store(b_panels[0]);
    __syncthreads();

    int current = 0;
    for (int k = first_k; k < last_k; k += TILE_K) {
        const bool more = k + TILE_K < last_k;
        if (more) {
            carrier_a.fetch(a, k + TILE_K, first_m);
            carrier_b.fetch(b, k + TILE_K, first_n);
        }
#pragma unroll
        for (int step = 0; step < TILE_K; ++step) {
            float a_part[THREAD_M], b_part[THREAD_N];
#pragma unroll
            for (int i = 0; i < THREAD_M; ++i) a_part[i] = a_panels[current][step][tile_row(i)];
#pragma unroll
            for (int j = 0; j < THREAD_N; ++j) b_part[j] = b_panels[current][step][tile_column(j)];
#pragma unroll
            for (int i = 0; i < THREAD_M; ++i) {
#pragma unroll
                for (int j = 0; j < THREAD_N; ++j) {
                    products.at[i][j] = fmaf(a_part[i], b_part[j], products.at[i][j]);
                }
            }
        }
        current ^= 1;
        if (more) {  // the other panels were last read before the previous barrier
            carrier_a.store(a_panels[current]);
            carrier_b.store(b_panels[current]);
        }
        __syncthreads();
    }
}

// The four products of a thread that lie side by side in row i, from column j on.
__device__ __forceinline__ float4 four_products(const Products& products, int i, int j) {
    const float* at = &products.at[i][j];
    return make_float4(at[0], at[1], at[2], at[3]);
}

// Sums the tile over the blocks that split k among them (gridDim.z). Returns true in the one block, the last to
// arrive, that holds the whole sum afterwards; the others are done.
//
//   partials  room for gridDim.z x tiles x TILE_M x TILE_N floats, where the blocks leave their shares
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

#pragma unroll
    for (int i = 0; i < THREAD_M; ++i) {
#pragma unroll
        for (int j = 0; j < THREAD_N; j += 4) {
            float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            const float4* share = shares + (i * THREAD_N + j) / 4 * THREADS;
#pragma unroll 4
            for (unsigned z = 0; z < gridDim.z; ++z) {
                const float4 part = __ldcg(share + z * from_share_to_share);
                sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
            }
            float* at = &products.at[i][j];
            at[0] = sum.x, at[1] = sum.y, at[2] = sum.z, at[3] = sum.w;
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
