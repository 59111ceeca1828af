// The kernels of the built-in engine for NVIDIA cards, compiled on the machine that runs them.
//
// No header is included, so that nothing but the runtime compiler has to be there. Pictures lie in
// memory with their channels last: [batch, height, width, channels]. Sums are kept in f32.

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

struct F16 { u16 bits; };
struct BF16 { u16 bits; };

// ---- numbers -----------------------------------------------------------------------------------

__device__ __forceinline__ float number(float x) { return x; }
__device__ __forceinline__ float number(F16 x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}
__device__ __forceinline__ float number(BF16 x) { return __uint_as_float((u32)x.bits << 16); }

template <typename T> __device__ __forceinline__ T rounded(float x);
template <> __device__ __forceinline__ float rounded<float>(float x) { return x; }
template <> __device__ __forceinline__ F16 rounded<F16>(float x) {
    F16 y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}
template <> __device__ __forceinline__ BF16 rounded<BF16>(float x) {
    u32 bits = __float_as_uint(x);
    BF16 y;
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        y.bits = 0x7fc0;
    } else {
        y.bits = (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    }
    return y;
}

// So many numbers side by side, moved in one go.
template <typename T, int N> struct alignas(sizeof(T) * N) Pack { T at[N]; };

template <typename T, int N>
__device__ __forceinline__ void load(const T* from, float (&to)[N]) {
    if constexpr (sizeof(T) * N <= 16) {
        Pack<T, N> pack = *reinterpret_cast<const Pack<T, N>*>(from);
#pragma unroll
        for (int i = 0; i < N; i++) to[i] = number(pack.at[i]);
    } else {
        constexpr int H = N / 2;
        Pack<T, H> low = reinterpret_cast<const Pack<T, H>*>(from)[0];
        Pack<T, H> high = reinterpret_cast<const Pack<T, H>*>(from)[1];
#pragma unroll
        for (int i = 0; i < H; i++) {
            to[i] = number(low.at[i]);
            to[H + i] = number(high.at[i]);
        }
    }
}

template <typename T, int N>
__device__ __forceinline__ void store(T* to, const float (&from)[N]) {
    if constexpr (sizeof(T) * N <= 16) {
        Pack<T, N> pack;
#pragma unroll
        for (int i = 0; i < N; i++) pack.at[i] = rounded<T>(from[i]);
        *reinterpret_cast<Pack<T, N>*>(to) = pack;
    } else {
        constexpr int H = N / 2;
        Pack<T, H> low, high;
#pragma unroll
        for (int i = 0; i < H; i++) {
            low.at[i] = rounded<T>(from[i]);
            high.at[i] = rounded<T>(from[H + i]);
        }
        reinterpret_cast<Pack<T, H>*>(to)[0] = low;
        reinterpret_cast<Pack<T, H>*>(to)[1] = high;
    }
}

__device__ __forceinline__ u64 place() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }

// ---- pointwise ---------------------------------------------------------------------------------

// z = x + y, each of `packs` packs.
template <typename T, int N>
__device__ void add_body(const T* x, const T* y, T* z, u64 packs) {
    u64 at = place();
    if (at >= packs) return;
    float a[N], b[N];
    load<T, N>(x + at * N, a);
    load<T, N>(y + at * N, b);
#pragma unroll
    for (int i = 0; i < N; i++) a[i] += b[i];
    store<T, N>(z + at * N, a);
}

// y = x + bias, where the bias repeats after `width` packs. In place if y is x.
template <typename T, int N>
__device__ void bias_body(const T* x, const T* bias, T* y, u64 packs, u32 width) {
    u64 at = place();
    if (at >= packs) return;
    float a[N], b[N];
    load<T, N>(x + at * N, a);
    load<T, N>(bias + (at % width) * N, b);
#pragma unroll
    for (int i = 0; i < N; i++) a[i] += b[i];
    store<T, N>(y + at * N, a);
}

// y = left * gelu(right): the two halves of each row of x; `width` packs each.
template <typename T, int N>
__device__ void geglu_body(const T* x, T* y, u64 packs, u32 width) {
    u64 at = place();
    if (at >= packs) return;
    u64 row = at / width, column = at % width;
    const T* from = x + (row * 2 * width + column) * N;
    float a[N], b[N];
    load<T, N>(from, a);
    load<T, N>(from + (u64)width * N, b);
#pragma unroll
    for (int i = 0; i < N; i++) a[i] *= 0.5f * b[i] * (1.0f + erff(b[i] * 0.70710678f));
    store<T, N>(y + at * N, a);
}

// ---- normalisation -----------------------------------------------------------------------------

// Over the last dimension; one warp a row. Rows of up to 32 * HELD packs are read once and kept.
template <typename T, int N>
__device__ void layer_norm_body(const T* x, const T* weight, const T* bias, T* y, u32 rows, u32 width, float epsilon) {
    constexpr int HELD = 5;
    u32 row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    const T* from = x + (u64)row * width * N;
    bool held = width <= 32 * HELD;
    float kept[HELD][N], v[N], sum = 0.0f;
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        u32 at = lane + k * 32;
        if (at < width) {
            load<T, N>(from + at * N, kept[k]);
#pragma unroll
            for (int i = 0; i < N; i++) sum += kept[k][i];
        }
    }
    for (u32 at = lane + 32 * HELD; at < width; at += 32) {
        load<T, N>(from + at * N, v);
#pragma unroll
        for (int i = 0; i < N; i++) sum += v[i];
    }
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    float count = (float)(width * N), mean = sum / count, spread = 0.0f;
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        if (lane + k * 32 < width) {
#pragma unroll
            for (int i = 0; i < N; i++) spread += (kept[k][i] - mean) * (kept[k][i] - mean);
        }
    }
    for (u32 at = lane + 32 * HELD; !held && at < width; at += 32) {
        load<T, N>(from + at * N, v);
#pragma unroll
        for (int i = 0; i < N; i++) spread += (v[i] - mean) * (v[i] - mean);
    }
    for (int step = 16; step > 0; step /= 2) spread += __shfl_xor_sync(0xffffffffu, spread, step);
    float inverse = 1.0f / sqrtf(spread / count + epsilon);
    auto finish = [&](u32 at, float (&numbers)[N]) {
        float w[N], b[N];
        load<T, N>(weight + at * N, w);
        load<T, N>(bias + at * N, b);
#pragma unroll
        for (int i = 0; i < N; i++) w[i] = (numbers[i] - mean) * inverse * w[i] + b[i];
        store<T, N>(y + ((u64)row * width + at) * N, w);
    };
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        if (lane + k * 32 < width) finish(lane + k * 32, kept[k]);
    }
    for (u32 at = lane + 32 * HELD; at < width; at += 32) {
        load<T, N>(from + at * N, v);
        finish(at, v);
    }
}

// Group normalisation goes in two steps. First: sums of some pixels, of all groups. What is
// summed is the distance to the group's first number, or digits would cancel. `width` is in packs.
// Grid: chunks by pictures. Threads: `width` times some lanes.
template <typename T, int N>
__device__ void group_sums_body(const T* x, float* sums, u32 pixels, u32 width, u32 groups) {
    extern __shared__ float room[];
    u32 column = threadIdx.x % width, lane = threadIdx.x / width, lanes = blockDim.x / width;
    u32 chunk = blockIdx.x, chunks = gridDim.x, picture = blockIdx.y;
    u32 channels = width * N, members = channels / groups;
    const T* from = x + (u64)picture * pixels * channels;
    float base[N], sum[N], square[N], v[N];
#pragma unroll
    for (int i = 0; i < N; i++) {
        u32 group = (column * N + i) / members;
        base[i] = number(from[group * members]);
        sum[i] = 0.0f;
        square[i] = 0.0f;
    }
    u32 each = (pixels + chunks - 1) / chunks, first = chunk * each;
    u32 last = min(first + each, pixels);
    for (u32 pixel = first + lane; pixel < last; pixel += lanes) {
        load<T, N>(from + (u64)pixel * channels + column * N, v);
#pragma unroll
        for (int i = 0; i < N; i++) {
            float d = v[i] - base[i];
            sum[i] += d;
            square[i] += d * d;
        }
    }
    // [lane][channel][2]
#pragma unroll
    for (int i = 0; i < N; i++) {
        u32 at = (lane * channels + column * N + i) * 2;
        room[at] = sum[i];
        room[at + 1] = square[i];
    }
    __syncthreads();
    // A warp adds up a group; in a fixed order, so that a seed gives one picture.
    u32 warp = threadIdx.x / 32, warps = blockDim.x / 32, inside = threadIdx.x % 32;
    if (warp >= warps) return;
    for (u32 group = warp; group < groups; group += warps) {
        float s = 0.0f, q = 0.0f;
        for (u32 at = inside; at < lanes * members; at += 32) {
            const float* pair = room + ((at / members) * channels + group * members + at % members) * 2;
            s += pair[0];
            q += pair[1];
        }
        for (int step = 16; step > 0; step /= 2) {
            s += __shfl_xor_sync(0xffffffffu, s, step);
            q += __shfl_xor_sync(0xffffffffu, q, step);
        }
        if (inside == 0) {
            u64 to = (((u64)picture * groups + group) * chunks + chunk) * 2;
            sums[to] = s;
            sums[to + 1] = q;
        }
    }
}

// Second: mean and spread of each group from the sums, then y = x * scale + shift, and x * sigmoid(x)
// of that if `silu`. Grid and threads as before; `chunks` is how many the first step had.
template <typename T, int N>
__device__ void group_apply_body(const T* x, const float* sums, const T* weight, const T* bias, T* y, u32 pixels,
                                 u32 width, u32 groups, u32 chunks, float epsilon, u32 silu) {
    extern __shared__ float room[];
    u32 column = threadIdx.x % width, lane = threadIdx.x / width, lanes = blockDim.x / width;
    u32 picture = blockIdx.y, channels = width * N, members = channels / groups;
    const T* from = x + (u64)picture * pixels * channels;
    u32 warp = threadIdx.x / 32, warps = blockDim.x / 32, inside = threadIdx.x % 32;
    for (u32 group = warp; warp < warps && group < groups; group += warps) {
        const float* pairs = sums + ((u64)picture * groups + group) * chunks * 2;
        float s = 0.0f, q = 0.0f;
        for (u32 chunk = inside; chunk < chunks; chunk += 32) {
            s += pairs[chunk * 2];
            q += pairs[chunk * 2 + 1];
        }
        for (int step = 16; step > 0; step /= 2) {
            s += __shfl_xor_sync(0xffffffffu, s, step);
            q += __shfl_xor_sync(0xffffffffu, q, step);
        }
        if (inside == 0) {
            float count = (float)pixels * (float)members, away = s / count;
            float variance = fmaxf(q / count - away * away, 0.0f);
            room[group * 2] = number(from[group * members]) + away;
            room[group * 2 + 1] = 1.0f / sqrtf(variance + epsilon);
        }
    }
    __syncthreads();
    float scale[N], shift[N], v[N];
    load<T, N>(weight + column * N, scale);
    load<T, N>(bias + column * N, shift);
#pragma unroll
    for (int i = 0; i < N; i++) {
        u32 group = (column * N + i) / members;
        scale[i] *= room[group * 2 + 1];
        shift[i] -= room[group * 2] * scale[i];
    }
    T* to = y + (u64)picture * pixels * channels;
    for (u32 pixel = blockIdx.x * lanes + lane; pixel < pixels; pixel += gridDim.x * lanes) {
        u64 at = (u64)pixel * channels + column * N;
        load<T, N>(from + at, v);
#pragma unroll
        for (int i = 0; i < N; i++) {
            float z = v[i] * scale[i] + shift[i];
            v[i] = silu ? z / (1.0f + __expf(-z)) : z;
        }
        store<T, N>(to + at, v);
    }
}

// ---- pictures ----------------------------------------------------------------------------------

struct Walk {
    u32 height, width;      // of the picture
    u32 rows, columns;      // of the result; rows of this band
    u32 first;              // row of the result the band starts with
    u32 kernel, stride, before;
    u32 wrap;               // beyond the edge lies the opposite edge instead of zeros
    u32 channels;           // in packs
};

// [b, h, w, c] to [b, rows, columns, kernel, kernel, c]: what each place of the result sees.
template <typename T, int N>
__device__ void gather_body(const T* x, T* y, u64 packs, Walk walk) {
    u64 at = place();
    if (at >= packs) return;
    u32 channel = (u32)(at % walk.channels);
    u64 rest = at / walk.channels;
    u32 tap = (u32)(rest % (walk.kernel * walk.kernel));
    rest /= walk.kernel * walk.kernel;
    u32 column = (u32)(rest % walk.columns);
    rest /= walk.columns;
    u32 row = (u32)(rest % walk.rows);
    u32 picture = (u32)(rest / walk.rows);
    int from_y = (int)((walk.first + row) * walk.stride + tap / walk.kernel) - (int)walk.before;
    int from_x = (int)(column * walk.stride + tap % walk.kernel) - (int)walk.before;
    int height = (int)walk.height, width = (int)walk.width;
    if (walk.wrap) {
        from_y = ((from_y % height) + height) % height;
        from_x = ((from_x % width) + width) % width;
    }
    Pack<T, N> pack = {};
    if (from_y >= 0 && from_y < height && from_x >= 0 && from_x < width) {
        u64 pixel = ((u64)picture * height + from_y) * width + from_x;
        pack = *reinterpret_cast<const Pack<T, N>*>(x + (pixel * walk.channels + channel) * N);
    }
    *reinterpret_cast<Pack<T, N>*>(y + at * N) = pack;
}

// The nearest pixel of a picture of another size.
template <typename T, int N>
__device__ void enlarge_body(const T* x, T* y, u64 packs, u32 height, u32 width, u32 rows, u32 columns, u32 channels) {
    u64 at = place();
    if (at >= packs) return;
    u32 channel = (u32)(at % channels);
    u64 rest = at / channels;
    u32 column = (u32)(rest % columns);
    rest /= columns;
    u32 row = (u32)(rest % rows);
    u64 picture = rest / rows;
    u64 pixel = (picture * height + (u64)row * height / rows) * width + (u64)column * width / columns;
    *reinterpret_cast<Pack<T, N>*>(y + at * N) =
        *reinterpret_cast<const Pack<T, N>*>(x + (pixel * channels + channel) * N);
}

// ---- attention ---------------------------------------------------------------------------------

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800

__device__ __forceinline__ u32 shared_address(const void* pointer) {
    u32 y;
    asm("{ .reg .u64 t; cvta.to.shared.u64 t, %1; cvt.u32.u64 %0, t; }" : "=r"(y) : "l"(pointer));
    return y;
}

// 16 bytes to shared memory without waiting; zeros if not `there`.
__device__ __forceinline__ void fetch(u32 to, const void* from, bool there) {
    int bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes));
}
__device__ __forceinline__ void fetched() { asm volatile("cp.async.commit_group;"); }
template <int LEFT> __device__ __forceinline__ void await_fetches() { asm volatile("cp.async.wait_group %0;" ::"n"(LEFT)); }

__device__ __forceinline__ void tiles(u32 (&to)[4], u32 from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(from));
}
__device__ __forceinline__ void turned_tiles(u32 (&to)[4], u32 from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(from));
}

template <typename T> struct Product;
template <> struct Product<F16> {
    __device__ static __forceinline__ void add(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
    __device__ static __forceinline__ u32 pair(float low, float high) {
        u32 y;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
        return y;
    }
};
template <> struct Product<BF16> {
    __device__ static __forceinline__ void add(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
    __device__ static __forceinline__ u32 pair(float low, float high) {
        u32 y;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
        return y;
    }
};

__device__ __forceinline__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Rows of one tensor in memory, numbers from one to the next: token, picture.
struct Strides { u64 q_row, q_picture, k_row, k_picture, v_row, v_picture; };

// softmax(q k' scale) v without ever holding a row of scores: running maximum and sum per query
// (Dao et al. 2022 and 2023, "FlashAttention"). One block takes 16 * TALL * WARPS queries of one head
// of one picture, a warp 16 * TALL of them. Keys come in blocks of 64, the next one on its way while
// one is worked on, STEP keys at a time. D numbers a head, W the same rounded up to 16.
template <typename T, int D, int W, int WARPS, int TALL, int STEP>
__device__ __forceinline__ void attention_body(const T* q, const T* k, const T* v, T* y, u32 queries, u32 keys, u32 heads,
                               Strides strides, float scale) {
    constexpr int KEYS = 64, ROWS = 16 * TALL * WARPS, PITCH = W + 8, DEPTH = W / 16, OUT = D / 8;
    constexpr int THREADS = 32 * WARPS, CHUNKS = W / 8, REAL = D / 8;
    extern __shared__ uint4 memory[];
    T* q_room = reinterpret_cast<T*>(memory); // ROWS x PITCH
    T* k_room = q_room + ROWS * PITCH;        // 2 x KEYS x PITCH
    T* v_room = k_room + 2 * KEYS * PITCH;    // 2 x KEYS x PITCH
    int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    u32 head = blockIdx.y % heads, picture = blockIdx.y / heads, first = blockIdx.x * ROWS;
    q += picture * strides.q_picture + head * D;
    k += picture * strides.k_picture + head * D;
    v += picture * strides.v_picture + head * D;
    for (int at = thread; at < ROWS * CHUNKS; at += THREADS) {
        int row = at / CHUNKS, chunk = at % CHUNKS;
        bool there = first + row < queries && chunk < REAL;
        const T* from = there ? q + (u64)(first + row) * strides.q_row + chunk * 8 : q;
        fetch(shared_address(q_room + row * PITCH + chunk * 8), from, there);
    }
    auto bring = [&](u32 block, int half) {
        for (int at = thread; at < KEYS * CHUNKS; at += THREADS) {
            int row = at / CHUNKS, chunk = at % CHUNKS;
            u32 key = block * KEYS + row;
            bool there = key < keys && chunk < REAL;
            int to = (half * KEYS + row) * PITCH + chunk * 8;
            fetch(shared_address(k_room + to), there ? k + (u64)key * strides.k_row + chunk * 8 : k, there);
            fetch(shared_address(v_room + to), there ? v + (u64)key * strides.v_row + chunk * 8 : v, there);
        }
        fetched();
    };
    u32 blocks = (keys + KEYS - 1) / KEYS;
    bring(0, 0);
    float out[TALL][OUT][4], top[TALL][2], sum[TALL][2];
#pragma unroll
    for (int t = 0; t < TALL; t++) {
#pragma unroll
        for (int i = 0; i < OUT; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) out[t][i][j] = 0.0f;
        top[t][0] = top[t][1] = -1e30f;
        sum[t][0] = sum[t][1] = 0.0f;
    }
    for (u32 block = 0; block < blocks; block++) {
        int half = block & 1;
        if (block + 1 < blocks) {
            bring(block + 1, half ^ 1);
            await_fetches<1>();
        } else {
            await_fetches<0>();
        }
        __syncthreads();
#pragma unroll
        for (int begin = 0; begin < KEYS; begin += STEP) {
            const T* k_block = k_room + (half * KEYS + begin) * PITCH;
            const T* v_block = v_room + (half * KEYS + begin) * PITCH;
            u32 before = block * KEYS + begin;
            if (before >= keys) break;
            float score[TALL][STEP / 8][4];
#pragma unroll
            for (int t = 0; t < TALL; t++)
#pragma unroll
                for (int n = 0; n < STEP / 8; n++)
#pragma unroll
                    for (int j = 0; j < 4; j++) score[t][n][j] = 0.0f;
#pragma unroll
            for (int d = 0; d < DEPTH; d++) {
                u32 a[TALL][4];
#pragma unroll
                for (int t = 0; t < TALL; t++) {
                    int row = (warp * TALL + t) * 16 + lane % 16;
                    tiles(a[t], shared_address(q_room + row * PITCH + d * 16 + lane / 16 * 8));
                }
#pragma unroll
                for (int n = 0; n < STEP / 16; n++) {
                    u32 b[4];
                    int row = n * 16 + lane / 16 * 8 + lane % 8;
                    tiles(b, shared_address(k_block + row * PITCH + d * 16 + lane / 8 % 2 * 8));
#pragma unroll
                    for (int t = 0; t < TALL; t++) {
                        Product<T>::add(score[t][2 * n], a[t], b[0], b[1]);
                        Product<T>::add(score[t][2 * n + 1], a[t], b[2], b[3]);
                    }
                }
            }
            u32 left = keys - before;
            if (left < STEP) {
#pragma unroll
                for (int t = 0; t < TALL; t++)
#pragma unroll
                    for (int n = 0; n < STEP / 8; n++)
#pragma unroll
                        for (int j = 0; j < 4; j++)
                            if (n * 8 + lane % 4 * 2 + j % 2 >= left) score[t][n][j] = -1e30f;
            }
#pragma unroll
            for (int t = 0; t < TALL; t++) {
#pragma unroll
                for (int half_row = 0; half_row < 2; half_row++) {
                    float most = top[t][half_row];
#pragma unroll
                    for (int n = 0; n < STEP / 8; n++)
                        most = fmaxf(most, fmaxf(score[t][n][2 * half_row], score[t][n][2 * half_row + 1]));
                    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
                    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
                    float shrink = power_of_two((top[t][half_row] - most) * scale);
                    top[t][half_row] = most;
                    float offset = most * scale, total = 0.0f;
#pragma unroll
                    for (int n = 0; n < STEP / 8; n++)
#pragma unroll
                        for (int j = 0; j < 2; j++) {
                            float p = power_of_two(score[t][n][2 * half_row + j] * scale - offset);
                            score[t][n][2 * half_row + j] = p;
                            total += p;
                        }
                    sum[t][half_row] = sum[t][half_row] * shrink + total;
#pragma unroll
                    for (int i = 0; i < OUT; i++) {
                        out[t][i][2 * half_row] *= shrink;
                        out[t][i][2 * half_row + 1] *= shrink;
                    }
                }
            }
#pragma unroll
            for (int n = 0; n < STEP / 16; n++) {
                u32 a[TALL][4];
#pragma unroll
                for (int t = 0; t < TALL; t++) {
                    a[t][0] = Product<T>::pair(score[t][2 * n][0], score[t][2 * n][1]);
                    a[t][1] = Product<T>::pair(score[t][2 * n][2], score[t][2 * n][3]);
                    a[t][2] = Product<T>::pair(score[t][2 * n + 1][0], score[t][2 * n + 1][1]);
                    a[t][3] = Product<T>::pair(score[t][2 * n + 1][2], score[t][2 * n + 1][3]);
                }
                // Two columns of tiles at a time; of an odd number the last one is loaded beside zeros.
#pragma unroll
                for (int i = 0; i < (OUT + 1) / 2; i++) {
                    u32 b[4];
                    int row = n * 16 + lane % 16;
                    turned_tiles(b, shared_address(v_block + row * PITCH + i * 16 + lane / 16 * 8));
#pragma unroll
                    for (int t = 0; t < TALL; t++) {
                        Product<T>::add(out[t][2 * i], a[t], b[0], b[1]);
                        if (2 * i + 1 < OUT) Product<T>::add(out[t][2 * i + 1 < OUT ? 2 * i + 1 : 0], a[t], b[2], b[3]);
                    }
                }
            }
        }
        __syncthreads();
    }
    T* to = y + (u64)picture * queries * heads * D + head * D;
#pragma unroll
    for (int t = 0; t < TALL; t++) {
#pragma unroll
        for (int half_row = 0; half_row < 2; half_row++) {
            float total = sum[t][half_row];
            total += __shfl_xor_sync(0xffffffffu, total, 1);
            total += __shfl_xor_sync(0xffffffffu, total, 2);
            float inverse = 1.0f / total;
            u32 row = first + (warp * TALL + t) * 16 + lane / 4 + half_row * 8;
            if (row >= queries) continue;
            T* line = to + (u64)row * heads * D;
#pragma unroll
            for (int i = 0; i < OUT; i++) {
                u32 pair = Product<T>::pair(out[t][i][2 * half_row] * inverse, out[t][i][2 * half_row + 1] * inverse);
                *reinterpret_cast<u32*>(line + i * 8 + lane % 4 * 2) = pair;
            }
        }
    }
}

#define ATTENTION(NAME, T, D, W, WARPS, TALL, STEP, BLOCKS)                                                          \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, BLOCKS)                                                 \
        attention_##D##_##NAME(const T* q, const T* k, const T* v, T* y, u32 queries, u32 keys, u32 heads,           \
                               u64 q_row, u64 q_picture, u64 k_row, u64 k_picture, u64 v_row, u64 v_picture,         \
                               float scale) {                                                                       \
        Strides strides = {q_row, q_picture, k_row, k_picture, v_row, v_picture};                                    \
        attention_body<T, D, W, WARPS, TALL, STEP>(q, k, v, y, queries, keys, heads, strides, scale);                \
    }
// What was fastest of some forty ways on an H200; see docs/performance.md.
ATTENTION(f16, F16, 40, 48, 4, 2, 64, 2)
ATTENTION(f16, F16, 64, 64, 4, 2, 32, 3)
ATTENTION(f16, F16, 80, 80, 4, 1, 64, 3)
ATTENTION(f16, F16, 160, 160, 4, 1, 64, 2)
ATTENTION(bf16, BF16, 40, 48, 4, 2, 64, 2)
ATTENTION(bf16, BF16, 64, 64, 4, 2, 32, 3)
ATTENTION(bf16, BF16, 80, 80, 4, 1, 64, 3)
ATTENTION(bf16, BF16, 160, 160, 4, 1, 64, 2)

#endif

// ---- by name -----------------------------------------------------------------------------------

// `_8` works in packs of eight numbers, `_1` in single ones, for widths that eight does not divide.
#define EACH(NAME, T, N)                                                                                            \
    extern "C" __global__ void add_##NAME##_##N(const T* x, const T* y, T* z, u64 packs) {                           \
        add_body<T, N>(x, y, z, packs);                                                                             \
    }                                                                                                               \
    extern "C" __global__ void bias_##NAME##_##N(const T* x, const T* bias, T* y, u64 packs, u32 width) {            \
        bias_body<T, N>(x, bias, y, packs, width);                                                                  \
    }                                                                                                               \
    extern "C" __global__ void geglu_##NAME##_##N(const T* x, T* y, u64 packs, u32 width) {                          \
        geglu_body<T, N>(x, y, packs, width);                                                                       \
    }                                                                                                               \
    extern "C" __global__ void layer_norm_##NAME##_##N(const T* x, const T* weight, const T* bias, T* y, u32 rows,   \
                                                       u32 width, float epsilon) {                                  \
        layer_norm_body<T, N>(x, weight, bias, y, rows, width, epsilon);                                            \
    }                                                                                                               \
    extern "C" __global__ void group_sums_##NAME##_##N(const T* x, float* sums, u32 pixels, u32 width, u32 groups) { \
        group_sums_body<T, N>(x, sums, pixels, width, groups);                                                      \
    }                                                                                                               \
    extern "C" __global__ void group_apply_##NAME##_##N(const T* x, const float* sums, const T* weight,              \
                                                        const T* bias, T* y, u32 pixels, u32 width, u32 groups,     \
                                                        u32 chunks, float epsilon, u32 silu) {                      \
        group_apply_body<T, N>(x, sums, weight, bias, y, pixels, width, groups, chunks, epsilon, silu);             \
    }                                                                                                               \
    extern "C" __global__ void gather_##NAME##_##N(const T* x, T* y, u64 packs, u32 height, u32 width, u32 rows,     \
                                                   u32 columns, u32 first, u32 kernel, u32 stride, u32 before,      \
                                                   u32 wrap, u32 channels) {                                        \
        Walk walk = {height, width, rows, columns, first, kernel, stride, before, wrap, channels};                  \
        gather_body<T, N>(x, y, packs, walk);                                                                       \
    }                                                                                                               \
    extern "C" __global__ void enlarge_##NAME##_##N(const T* x, T* y, u64 packs, u32 height, u32 width, u32 rows,    \
                                                    u32 columns, u32 channels) {                                    \
        enlarge_body<T, N>(x, y, packs, height, width, rows, columns, channels);                                    \
    }
#define BOTH(NAME, T) EACH(NAME, T, 8) EACH(NAME, T, 1)
BOTH(f32, float)
BOTH(f16, F16)
BOTH(bf16, BF16)
