// product.cuh: a block's tile of a matrix product, P[m,n] = sum over k of A[m,k] B[k,n], summed in registers.
//
// Compile-time parameters: the block computes TILE_M x TILE_N products, TILE_K terms at a time; a thread keeps
// THREAD_M x THREAD_N of them. THREADS follows from these. Panels of A and B go through shared memory, two of each:
// while one is multiplied, the next is on its way to registers, so a step costs one barrier.
//
// Order of summation: k ascending within a block, then the blocks of the split in ascending order. It is fixed, so
// every run gives the same bits.
// Source  register tiles and panels: Volkov & Demmel, Benchmarking GPUs to tune dense linear algebra (2008).
#pragma once
#include "common.cuh"
#include "matrix.cuh"

#ifndef BIAS
#define BIAS 1  // see input.cuh
#endif

constexpr int THREADS_M = TILE_M / THREAD_M;
constexpr int THREADS_N = TILE_N / THREAD_N;
constexpr int THREADS = THREADS_M * THREADS_N;

// A thread's rows and columns come in groups of neighbours, each read from shared memory as one word. The groups lie a
// stripe apart, so that neighbouring threads read neighbouring words.
constexpr int GROUP_M = THREAD_M < 4 ? THREAD_M : 4;
constexpr int GROUP_N = 4;
constexpr int PANEL_PAD = 4;  // spreads columns over the banks if filled transposed; keeps rows aligned to 16 bytes

struct Products {
    float at[THREAD_M][THREAD_N];
};

// Row in the tile of this thread's i-th row of products, and column in the tile of its j-th column.
__device__ __forceinline__ int tile_row(int i) {
    return (i / GROUP_M) * (GROUP_M * THREADS_M) + (threadIdx.x / THREADS_N) * GROUP_M + i % GROUP_M;
}
__device__ __forceinline__ int tile_column(int j) {
    return (j / GROUP_N) * (GROUP_N * THREADS_N) + (threadIdx.x % THREADS_N) * GROUP_N + j % GROUP_N;
}

enum Direction { K_ALONG_ROWS, K_ALONG_COLUMNS };  // how k runs in the matrix as stored: (x, k) or (k, x)

// Which part of a product a block computes: a tile, or a share of a tile's terms.
struct Part {
    int tile_m, tile_n;               // row and column of the tile among the result's tiles
    int tile, tiles;                  // number of the tile; how many there are
    int share, shares;                // which share of the tile's terms; how many blocks share them
    int tiles_before, shares_before;  // of the launch's earlier products: how much of the workspace they take

    __device__ __forceinline__ int first_m() const { return tile_m * TILE_M; }
    __device__ __forceinline__ int first_n() const { return tile_n * TILE_N; }

    // Where this block's terms begin and end: whole panels, so that only the last share is ragged.
    __device__ __forceinline__ int first_k(int terms) const { return end_of(share, terms); }
    __device__ __forceinline__ int last_k(int terms) const { return end_of(share + 1, terms); }

    __device__ __forceinline__ int end_of(int before, int terms) const {
        const int panels = (terms + TILE_K - 1) / TILE_K;
        return (int)((long long)panels * before / shares) * TILE_K;
    }
};

// For a launch that computes one product: grid (tiles of n, tiles of m, shares).
__device__ __forceinline__ Part part_of_grid() {
    const int tiles = gridDim.x * gridDim.y, tile = blockIdx.y * gridDim.x + blockIdx.x;
    return {(int)blockIdx.y, (int)blockIdx.x, tile, tiles, (int)blockIdx.z, (int)gridDim.z, 0, 0};
}

// For a launch that computes several products, whose blocks follow one another. This one is m x n and comes after
// `other`, or first if `other` is Part{}. If share >= shares, this block belongs to a later product.
__device__ __forceinline__ Part part_of_product(const Part& other, int m, int n, int shares) {
    const int taken = other.tiles * other.shares, block = blockIdx.x - taken;
    const int tiles_n = (n + TILE_N - 1) / TILE_N;
    const int tiles = (m + TILE_M - 1) / TILE_M * tiles_n;
    const int tile = block % tiles;
    return {tile / tiles_n, tile % tiles_n, tile, tiles, block / tiles, shares,
            other.tiles_before + other.tiles, other.shares_before + (other.shares > 1 ? taken : 0)};
}

// Keeps a part in shared memory: a loop over panels leaves no registers for it. The whole block must call this, once.
__device__ __forceinline__ const Part& kept(const Part& part) {
    __shared__ Part keeper;
    if (threadIdx.x == 0) keeper = part;
    __syncthreads();
    return keeper;
}

// Carries panels of TILE_K x WIDTH numbers from a matrix to shared memory, four at a time. Between `fetch` and `store`
// a panel is in registers, in the format of the matrix: using a number in between would wait for it to arrive.
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

    // Position in the panel of this thread's i-th read. Its four numbers are adjacent in a row of the stored matrix.
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

    // Where k counts rows, the next panel's rows are found one panel ahead, because their numbers may have to be read
    // from memory. Depending on whether this comes first or last, the compiler postpones it or runs out of registers.
    // As it is here, it does neither, in any kernel: tests/kernels/test_machine_code.py checks that.
    __device__ __forceinline__ void fetch(int first_k) {
        int now[READS_PER_THREAD];
#pragma unroll
        for (int i = 0; i < READS_PER_THREAD; ++i) now[i] = places[i];
        constexpr bool FIRST = THREAD_M * THREAD_N < (BIAS ? 64 : 16);
        if constexpr (DIRECTION == K_ALONG_COLUMNS && FIRST) find_rows(first_k + TILE_K);
#pragma unroll
        for (int i = 0; i < READS_PER_THREAD; ++i) {
            int k, x;
            position(i, k, x);
            const int column = DIRECTION == K_ALONG_ROWS ? first_k + k : first_x + x;
            if (mine(i)) staged[i] = source.fetch(now[i], column);
        }
        if constexpr (DIRECTION == K_ALONG_COLUMNS && !FIRST) find_rows(first_k + TILE_K);
    }

    // Stores the panel that was fetched from first_k on: 0 beyond the last k. Beyond the last x it does not matter.
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

// Whether this block arrived last. Defined before the panels: if they began at address 0, the compiler would need more
// registers.
__device__ __forceinline__ bool& shared_last() {
    __shared__ bool last;
    return last;
}

// The block's two panels of A and two of B, the same for all its products: a kernel with two has space for one set.
using PanelA = float[TILE_K][TILE_M + PANEL_PAD];
using PanelB = float[TILE_K][TILE_N + PANEL_PAD];

__device__ __forceinline__ PanelA* shared_a_panels() {
    __shared__ __align__(16) PanelA panels[2];
    return panels;
}

__device__ __forceinline__ PanelB* shared_b_panels() {
    __shared__ __align__(16) PanelB panels[2];
    return panels;
}

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

// Adds to `products` this block's part of all `terms` terms.
// A_DIRECTION: A as stored is (m, k) or (k, m); B_DIRECTION: B as stored is (n, k) or (k, n).
template <Direction A_DIRECTION, Direction B_DIRECTION, class A, class B>
__device__ __forceinline__ void multiply_tile(
        const A& a, const B& b, const Part& part, int terms, Products& products) {
    PanelA* const a_panels = shared_a_panels();
    PanelB* const b_panels = shared_b_panels();
    const int first_k = part.first_k(terms), last_k = part.last_k(terms);
    if (first_k >= last_k) return;  // the whole block: the last batch is too small for all shares
    PanelCarrier<TILE_M, A_DIRECTION, A> carrier_a(a, first_k, part.first_m());
    PanelCarrier<TILE_N, B_DIRECTION, B> carrier_b(b, first_k, part.first_n());

    carrier_a.fetch(first_k);
    carrier_b.fetch(first_k);
    carrier_a.store(a_panels[0], first_k);
    carrier_b.store(b_panels[0], first_k);
    __syncthreads();

    // No condition inside the loop: with one around the reads, the compiler would move them past the multiply-adds, to
    // where their numbers are stored. So the last panel is multiplied after the loop.
    int current = 0;
    for (int next = first_k + TILE_K; next < last_k; next += TILE_K) {
        // Wider reads first: the compiler postpones what takes more registers.
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

// The thread's four adjacent products in row i, from column j on.
__device__ __forceinline__ float4 four_products(const Products& products, int i, int j) {
    const float* at = &products.at[i][j];
    return make_float4(at[0], at[1], at[2], at[3]);
}

// Where the blocks that share a tile leave their sums for one another.
struct Workspace {
    float* partials;     // TILE_M x TILE_N floats for each share of each tile
    unsigned* arrivals;  // one counter per tile, 0 before the launch and again after it
};

// Sums the tile over the blocks that share it. Returns true in the last block to arrive, which then holds the whole
// sum; the others are done.
__device__ __forceinline__ bool sum_over_shares(const Workspace& workspace, const Part& part, Products& products) {
    if (part.shares == 1) return true;
    // A thread's fours lie THREADS fours apart, so that neighbouring threads use neighbouring memory.
    constexpr int FOURS = THREAD_M * THREAD_N / 4;
    const size_t from_share_to_share = (size_t)part.tiles * FOURS * THREADS;
    float4* shares = reinterpret_cast<float4*>(workspace.partials) +
                     (size_t)(part.shares_before + part.tile) * FOURS * THREADS + threadIdx.x;
    unsigned* arrivals = workspace.arrivals + part.tiles_before + part.tile;
    float4* mine = shares + part.share * from_share_to_share;
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i) {
#pragma unroll
        for (int j = 0; j < THREAD_N; j += 4) {
            __stcg(mine + (i * THREAD_N + j) / 4 * THREADS, four_products(products, i, j));
        }
    }

    bool& last = shared_last();
    __syncthreads();  // arriving tells the others that the whole block's share is written
    if (threadIdx.x == 0) {
        last = arrive(arrivals) == part.shares - 1;
        if (last) *arrivals = 0;
    }
    __syncthreads();
    if (!last) return false;

    // Share by share, so that all loads of a share are in flight at once; with small tiles, those of several shares.
    constexpr int SHARES_AT_ONCE = FOURS < 8 ? 8 / FOURS : 1;
    products = Products{};
#pragma unroll SHARES_AT_ONCE
    for (int number = 0; number < part.shares; ++number) {
        const float4* share = shares + number * from_share_to_share;
#pragma unroll
        for (int four = 0; four < FOURS; ++four) {
            const float4 part = __ldcg(share + four * THREADS);
            float* at = &products.at[four * 4 / THREAD_N][four * 4 % THREAD_N];
            at[0] += part.x, at[1] += part.y, at[2] += part.z, at[3] += part.w;
        }
    }
    return true;
}
