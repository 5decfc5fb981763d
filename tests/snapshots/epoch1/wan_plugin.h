/*
 * wan_plugin.h: samplers, caches and solvers for wan, in C (C11, C++17).
 *
 * A plugin is a shared library that exports two symbols:
 *
 *   const wan_manifest WAN_PLUGIN_MANIFEST = WAN_MANIFEST("my-plugin", "0.1.0", "MIT");
 *   const wan_plugin *wan_plugin_entry(const wan_host *host);
 *
 * The host owns tensors, model and loop. A sampler says where on the noise schedule each latent
 * frame goes next; a cache says whether the transformer's blocks must run; a solver moves a sample
 * from one noise level to the next, and the host makes a sampler of it. None of them sees a number
 * of a tensor unless it asks for a copy: it holds references and calls operations of the host.
 *
 * The rules
 *  - Every table and struct begins with its size in bytes, as its writer was compiled. A reader
 *    looks at the size before it reads a member, so members can be added at the end, and nowhere
 *    else. WAN_INIT fills a struct with zeros and its size.
 *  - A function that can fail returns WAN_OK or one of the other results and then writes a line for
 *    the user into the last parameter (wan_fail does both). An error of the host is passed on as it
 *    is: copy the result, and leave the text where it was written.
 *  - Threads: each function has its thread in brackets.
 *      [opening thread]  once, while the library is opened.
 *      [object thread]   the host calls an object from one thread at a time, not always the same
 *                        one. Two objects, or `create` twice, may be at work at once.
 *      [in the call]     may be called during the call that it was passed to, on the thread of that
 *                        call. An operation fails anywhere else (WAN_FAILED) and changes nothing.
 *      [any thread]      may be called at any time.
 *  - Lifetimes: what is passed to a function is valid until it returns, unless it says otherwise.
 *    Tables, strings and lists of a wan_plugin stay as they are for ever.
 *  - References: a function that gives a `wan_tensor *` gives one reference, which the receiver
 *    releases. A `const wan_tensor *` parameter belongs to the caller: retain it to keep it.
 *    References are memory: the host counts the bytes that they keep alive.
 *  - Nothing may leave a function but its result: no C++ exception, no longjmp, no exit.
 *  - Abilities that come later have ids ("wan.state/1") and are messages: a JSON document and
 *    tensors. docs/writing-a-plugin.md lists them.
 *
 * Text is UTF-8 and ends with a zero byte. Frames are latent frames. Sigma is the noise fraction:
 * 1 pure noise, 0 clean.
 */
#ifndef WAN_PLUGIN_H
#define WAN_PLUGIN_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define WAN_EXPORT __declspec(dllexport)
#else
#define WAN_EXPORT __attribute__((visibility("default")))
#endif

/* ---- The manifest: what the host reads before it calls anything -------------------------- */

#define WAN_EPOCH 1
#define WAN_FLAVOUR_C 2

typedef struct wan_manifest {
    char magic[8]; /* "WANPLUG" and a zero byte */
    uint32_t size; /* sizeof(wan_manifest) */
    uint32_t epoch; /* WAN_EPOCH */
    uint32_t flavour; /* 1: abi_stable (Rust), 2: this header, 3: both */
    uint32_t unwinds; /* 1: a fault of the plugin's language ends in an error, as C has none */
    const char *name;
    const char *version;
    const char *licence; /* SPDX */
    const char *built_with; /* version of wan-plugin-api; empty in C */
} wan_manifest;

#define WAN_MANIFEST(name, version, licence)                                                     \
    { "WANPLUG", (uint32_t)sizeof(wan_manifest), WAN_EPOCH, WAN_FLAVOUR_C, 1, name, version,     \
      licence, "" }

extern WAN_EXPORT const wan_manifest WAN_PLUGIN_MANIFEST;

/* ---- Results ------------------------------------------------------------------------------ */

typedef uint32_t wan_result;

enum {
    WAN_OK = 0,
    WAN_INVALID = 1, /* a setting that the user can change */
    WAN_UNSUPPORTED = 2, /* no such id, operation or extension */
    WAN_CANCELLED = 3, /* the user has stopped the run: pass it on */
    WAN_FAILED = 4, /* anything else */
    WAN_PANICKED = 5 /* the plugin has caught a fault of its own */
};

/* Where an error is written; the caller owns it. */
typedef struct wan_error {
    uint32_t size;
    uint32_t reserved;
    char text[1016]; /* one line: the facts, expected and found, and what to do */
} wan_error;

static inline wan_result wan_fail(wan_error *error, wan_result result, const char *text) {
    if (error) {
        snprintf(error->text, sizeof(error->text), "%s", text);
    }
    return result;
}

/* Zeros, and the size of the struct. */
#define WAN_INIT(value)                                                                          \
    do {                                                                                         \
        memset((value), 0, sizeof(*(value)));                                                    \
        (value)->size = (uint32_t)sizeof(*(value));                                              \
    } while (0)

/* ---- Tensors ------------------------------------------------------------------------------ */

/* A counted reference to a tensor of the host. Never looked into; not a pointer to memory. */
typedef struct wan_tensor wan_tensor;

enum { WAN_F32 = 1, WAN_BF16 = 2, WAN_F16 = 3, WAN_F8E4M3 = 4 };
enum { WAN_DEVICE = 1, WAN_MAIN_MEMORY = 2 };

/* This struct never grows: it lies in wan_evaluation. */
typedef struct wan_form {
    uint32_t size;
    uint32_t frames; /* latent frames; every operation works frame by frame */
    uint64_t frame_elements; /* elements of one frame */
    uint64_t bytes; /* that a reference keeps alive */
    uint32_t dtype; /* WAN_F32, ... */
    uint32_t place; /* WAN_DEVICE or WAN_MAIN_MEMORY */
} wan_form;

/* What is there from the first call on, as long as the process lives. */
typedef struct wan_host {
    uint32_t size;
    uint32_t epoch;
    /* One more reference; gives the same tensor. NULL for what is no tensor. [any thread] */
    wan_tensor *(*retain)(const wan_tensor *tensor);
    /* One reference less; NULL is allowed. [any thread] */
    void (*release)(wan_tensor *tensor);
    /* Writes what a tensor is to `form`, whose size the caller fills in. WAN_FAILED for what is no
     * tensor. [any thread] */
    wan_result (*form)(const wan_tensor *tensor, wan_form *form);
    /* A line for the host's log; level 1 error, 2 warning, 3 information, 4 debug, 5 trace. The last
     * one before wan_plugin_entry gives NULL is why. [any thread] */
    void (*log)(uint32_t level, const char *text);
} wan_host;

/* coefficient * tensor */
typedef struct wan_term {
    const wan_tensor *tensor;
    const double *coefficients;
    uint64_t coefficient_count; /* 1: the same for all frames; else one per frame */
} wan_term;

/* A document and tensors: the question or the answer of an extension. */
typedef struct wan_message {
    uint32_t size;
    uint32_t tensor_count;
    const char *document; /* JSON; may be empty */
    const wan_tensor *const *tensors; /* the sender's; NULL where there are none */
} wan_message;

/* Takes an answer. */
typedef struct wan_answer {
    uint32_t size;
    uint32_t reserved;
    void *self;
    /* Takes it: call it once. The message is the caller's, as every parameter. [in the call] */
    void (*give)(void *self, const wan_message *message);
} wan_answer;

/* Operations on tensors, all [in the call]. A tensor given back in `out` is one reference. */
typedef struct wan_ops {
    uint32_t size;
    uint32_t reserved;
    /* Sum of the terms in f64, rounded once to f32. A term with coefficient 0 is skipped, so a frame
     * with coefficients 1, 0, ... keeps its bits. [in the call] */
    wan_result (*combine)(const wan_term *terms, uint64_t count, wan_tensor **out, wan_error *);
    /* Sum of |a| of each frame into `sums`, which has room for all frames. [in the call] */
    wan_result (*frame_abs_sums)(const wan_tensor *a, double *sums, uint64_t room, wan_error *);
    /* Sum of |a - b| of each frame; both have the same form. [in the call] */
    wan_result (*frame_abs_diffs)(const wan_tensor *a, const wan_tensor *b, double *sums,
                                  uint64_t room, wan_error *);
    /* Standard normal noise in the shape of `like`: a function of seed, stream and index alone.
     * [in the call] */
    wan_result (*noise_like)(const wan_tensor *like, uint64_t stream, uint64_t index,
                             wan_tensor **out, wan_error *);
    /* A copy of frames start .. start + len. [in the call] */
    wan_result (*narrow_frames)(const wan_tensor *a, uint32_t start, uint32_t len,
                                wan_tensor **out, wan_error *);
    /* Tensors joined along the frame axis. [in the call] */
    wan_result (*cat_frames)(const wan_tensor *const *parts, uint64_t count, wan_tensor **out,
                             wan_error *);
    /* In another number format; WAN_F8E4M3 keeps a scale per frame with the tensor.
     * [in the call] */
    wan_result (*cast)(const wan_tensor *a, uint32_t dtype, wan_tensor **out, wan_error *);
    /* In another place; one more reference if it is there already. [in the call] */
    wan_result (*move_to)(const wan_tensor *a, uint32_t place, wan_tensor **out, wan_error *);
    /* All elements as f32, frame by frame. Slow. [in the call] */
    wan_result (*read)(const wan_tensor *a, float *elements, uint64_t room, wan_error *);
    /* An f32 tensor in the shape of `like` with these elements. Slow. [in the call] */
    wan_result (*write_like)(const wan_tensor *like, const float *elements, uint64_t count,
                             wan_tensor **out, wan_error *);
    /* Not 0: the user has stopped the run. Long loops return WAN_CANCELLED then, and only then.
     * [in the call] */
    uint32_t (*cancelled)(void);
    /* An operation that came later; WAN_UNSUPPORTED where the host has it not. [in the call] */
    wan_result (*extension)(const char *id, const wan_message *question, const wan_answer *answer,
                            wan_error *);
} wan_ops;

/* ---- Noise levels and rounds -------------------------------------------------------------- */

/* One frame of a round. This struct never grows: it stands in lists. */
typedef struct wan_level {
    uint32_t frame; /* number in the video, from 0 */
    uint8_t update; /* 1: the step moves it; 0: it keeps its bits */
    uint8_t wants_velocity; /* 1: the sampler uses its velocity; 0: that comes back as zeros */
    uint8_t reserved[2];
    double timestep; /* what the model is told: 1000 * sigma, rounded as the solver's source does */
    double sigma; /* before the step */
    double sigma_next; /* after it */
} wan_level;

/* A window of frames that are evaluated together. */
typedef struct wan_round {
    uint32_t size;
    uint32_t level_count;
    const wan_level *levels; /* of frames that follow each other */
    uint32_t attention_block; /* frames of a block under block-causal attention; 0: all see all */
    uint32_t evaluations; /* of the model in this round: 1, or 2 for Heun's method */
} wan_round;

typedef struct wan_step {
    uint32_t size;
    uint32_t evaluations_left; /* from this round on, itself included */
    uint64_t index; /* of the round, from 0 */
    uint32_t evaluation; /* evaluations before it */
    uint32_t reserved;
    const wan_round *round;
} wan_step;

/* The model, as a sampler sees it. */
typedef struct wan_model {
    uint32_t size;
    uint32_t reserved;
    /* Velocity noise - x0 at `sample`, guidance applied, f32, in the form of `sample`. `levels` are
     * those of the round, changed where the step evaluates elsewhere. [in the call] */
    wan_result (*velocity)(const wan_tensor *sample, const wan_level *levels, uint64_t count,
                           wan_tensor **out, wan_error *);
} wan_model;

/* ---- Options ------------------------------------------------------------------------------ */

enum {
    WAN_OPTION_BOOL = 1,
    WAN_OPTION_INT = 2,
    WAN_OPTION_FLOAT = 3,
    WAN_OPTION_CHOICE = 4,
    WAN_OPTION_FLOAT_LIST = 5,
    WAN_OPTION_DOCUMENT = 6 /* a JSON file */
};

typedef struct wan_option {
    uint32_t size;
    uint32_t kind; /* WAN_OPTION_... */
    const char *name; /* lower case, digits, underscores */
    const char *doc; /* one line */
    const char *flag; /* a flag of its own on the command line, or NULL */
    double min, max; /* of an INT or a FLOAT, both included */
    const char *const *choices; /* of a CHOICE; ends with NULL */
    const char *initial; /* default as JSON ("0.1", "true", "\"word\""); NULL: false, min, the first
                            choice, an empty list, no document */
} wan_option;

/* Complete and checked values. Valid until `create` returns. */
typedef struct wan_options {
    uint32_t size;
    uint32_t reserved;
    const char *json; /* all of them, as an object */
    const void *self; /* for the functions below */
    /* Of a BOOL (0 or 1), INT or FLOAT; not a number where there is no such option. [in the call] */
    double (*number)(const void *self, const char *name);
    /* The word of a CHOICE, the text of a DOCUMENT; NULL where there is none. [in the call] */
    const char *(*text)(const void *self, const char *name);
    /* The numbers of a FLOAT_LIST: gives how many there are, writes at most `room`. [in the call] */
    uint64_t (*numbers)(const void *self, const char *name, double *out, uint64_t room);
} wan_options;

/* ---- Samplers ----------------------------------------------------------------------------- */

/* The video to sample. */
typedef struct wan_request {
    uint32_t size;
    uint32_t frames; /* of the video, the prefix included */
    uint32_t prefix_frames; /* clean frames at the start */
    uint32_t steps; /* of each frame */
    double shift; /* sigma' = shift * sigma / (1 + (shift - 1) * sigma) */
    uint32_t temporal_scale; /* pixel frames of a latent frame; the first has one */
    uint32_t reserved;
} wan_request;

/* Takes the rounds of a schedule. */
typedef struct wan_schedule {
    uint32_t size;
    uint32_t reserved;
    void *self;
    /* Takes the next round. [in the call] */
    void (*round)(void *self, const wan_round *round);
    /* Takes a line for the user. [in the call] */
    void (*notice)(void *self, const char *line);
    /* Takes the work of the whole schedule, where the rounds given now are a part of it.
     * [in the call] */
    void (*part_of)(void *self, uint64_t rounds, uint32_t evaluations);
} wan_schedule;

typedef struct wan_sampler wan_sampler;
struct wan_sampler {
    uint32_t size;
    uint32_t reserved;
    const char *id; /* unique among all samplers: lower case, digits, "-", "." */
    const char *doc; /* one line */
    const wan_option *const *options; /* ends with NULL; NULL: none */
    const char *const *extensions; /* ids that `extension` answers; ends with NULL; NULL: none */
    /* Makes an object for one request, given back in `object`. [object thread] */
    wan_result (*create)(const wan_sampler *table, const wan_options *, const wan_request *,
                         void **object, wan_error *);
    /* Gives the rounds from `from` on: all of them, or some with `part_of`. Asked with 0 after
     * `create`, with later ones when the host comes to them; the answer depends on request, options and
     * `from` alone. [object thread] */
    wan_result (*schedule)(void *object, uint64_t from, const wan_schedule *, wan_error *);
    /* Moves the window's frames: `out` is in the form of `sample`, f32 [1, C, frames, H, W].
     * [object thread] */
    wan_result (*step)(void *object, const wan_step *, const wan_tensor *sample, const wan_model *,
                       const wan_ops *, wan_tensor **out, wan_error *);
    /* Answers a message of one of `extensions`; may be NULL where that is. [object thread] */
    wan_result (*extension)(void *object, const char *id, const wan_message *question,
                            const wan_answer *, const wan_ops *, wan_error *);
    /* Ends the object, which releases what it holds. [object thread] */
    void (*destroy)(void *object);
};

/* ---- Caches ------------------------------------------------------------------------------- */

enum { WAN_BEFORE_EMBED = 1, WAN_BEFORE_BLOCKS = 2, WAN_AFTER_BLOCK = 3 };
enum { WAN_RESIDUAL = 1, WAN_OUTPUT_DELTA = 2 };
enum { WAN_COMPUTE = 1, WAN_REUSE = 2 };
enum {
    WAN_SAMPLE = 1, /* latents [1, C, F, H, W] */
    WAN_TIME_EMBEDDING = 2, /* e, [F, D] */
    WAN_TIME_PROJECTION = 3, /* e0, [F, 6, D] */
    WAN_HIDDEN = 4, /* hidden states [1, L, D] where it decides */
    WAN_PROBE = 5 /* residual of the blocks before that */
};

/* The stream of evaluations that one object serves: one guidance branch, expert and window. */
typedef struct wan_context {
    uint32_t size;
    uint32_t expert; /* number of the transformer that runs */
    const char *branch; /* "cond", "uncond" */
    uint32_t evaluations; /* of this stream */
    uint32_t evaluations_before; /* of this window, by earlier experts */
    uint32_t evaluations_after; /* and by later ones */
    uint32_t steps; /* of each frame */
    uint32_t experts; /* transformers of the model */
    uint32_t frames; /* of the window */
    uint32_t frame_tokens; /* tokens of a frame */
    uint32_t timesteps_max; /* distinct timesteps of an evaluation, at most */
    const char *variant; /* "t2v", "i2v", "df", ... */
    const char *model_hash; /* SHA-256 of the weight files */
    uint32_t dim, layers, in_channels; /* of the transformer */
    uint32_t dtype; /* of hidden states and residuals */
    uint32_t signal_dtype; /* of the time signals */
    uint32_t keep; /* where kept tensors must be */
    uint64_t frame_output_elements; /* of the model's output, one frame */
    uint64_t residual_bytes; /* of one residual of all frames in `dtype` */
} wan_context;

/* Filled by the plugin; its pointers are valid as long as the object. */
typedef struct wan_plan {
    uint32_t size;
    uint32_t decides; /* WAN_BEFORE_BLOCKS, ... */
    uint32_t after_block; /* of WAN_AFTER_BLOCK: number of the block, from 0 */
    uint32_t reads; /* signals that it is shown: 1 << WAN_SAMPLE | ... */
    uint32_t replaces; /* WAN_RESIDUAL or WAN_OUTPUT_DELTA */
    uint8_t shared_decision; /* 1: the first branch decides for all */
    uint8_t schedule_only; /* 1: decisions depend on timesteps and weights alone */
    uint8_t reserved[2];
    uint64_t bytes_max; /* that the object's references keep alive, at most */
    const char *const *measures; /* names of what it measures; ends with NULL; NULL: nothing */
    const char *rule; /* JSON, for reports and properties; NULL: none */
} wan_plan;

typedef struct wan_signal {
    uint32_t kind; /* WAN_SAMPLE, ... */
    uint32_t reserved;
    const wan_tensor *tensor;
} wan_signal;

typedef struct wan_evaluation {
    uint32_t size;
    uint32_t index; /* in the stream, from 0 */
    uint32_t remaining; /* after this one */
    uint32_t leader; /* 0: decide freely; else what the first branch chose */
    const wan_level *levels;
    const wan_signal *signals; /* those of the plan */
    uint32_t level_count;
    uint32_t signal_count;
    wan_form computes; /* of what `store` would be given */
} wan_evaluation;

/* Filled by the plugin. As it comes, it says: compute, and do not store. */
typedef struct wan_decision {
    uint32_t size;
    uint32_t keep; /* 1: hand what is computed to `store` */
    wan_tensor *reuse; /* one reference, which the host takes: use this. NULL: compute */
    double *measured; /* room for the numbers of the plan's `measures` */
    uint32_t measured_room;
    uint32_t measured_count; /* as many as were written */
} wan_decision;

typedef struct wan_cache wan_cache;
struct wan_cache {
    uint32_t size;
    uint32_t reserved;
    const char *id;
    const char *doc;
    const wan_option *const *options;
    const char *const *extensions;
    /* Makes an object for one stream, given back in `object`. [object thread] */
    wan_result (*create)(const wan_cache *table, const wan_options *, const wan_context *,
                         void **object, wan_error *);
    /* Says what it looks at and holds. Asked once, after `create`. [object thread] */
    wan_result (*plan)(void *object, wan_plan *, wan_error *);
    /* Decides whether the blocks run, or what stands in for them. [object thread] */
    wan_result (*decide)(void *object, const wan_evaluation *, const wan_ops *, wan_decision *,
                         wan_error *);
    /* Takes what an evaluation has computed, after a decision to compute and keep.
     * [object thread] */
    wan_result (*store)(void *object, const wan_tensor *computed, const wan_ops *, wan_error *);
    /* As a sampler's. [object thread] */
    wan_result (*extension)(void *object, const char *id, const wan_message *question,
                            const wan_answer *, const wan_ops *, wan_error *);
    /* Ends the object, which releases what it holds. [object thread] */
    void (*destroy)(void *object);
};

/* ---- Solvers ------------------------------------------------------------------------------ */

/* The noise levels that a solver goes down. Valid until `create` returns. */
typedef struct wan_sigmas {
    uint32_t size;
    uint32_t steps;
    const double *sigmas; /* steps + 1, never rising */
    const double *timesteps; /* one for the first evaluation of each step */
    uint32_t first_frame; /* number in the video of the sample's first frame, for noise */
    uint32_t reserved;
} wan_sigmas;

/* Moves one sample down one table. The host offers it as a sampler of the same id. */
typedef struct wan_solver wan_solver;
struct wan_solver {
    uint32_t size;
    uint32_t reserved;
    const char *id;
    const char *doc;
    const wan_option *const *options;
    const char *const *extensions; /* "wan.state/1" for a solver with a history */
    /* Makes an object for one sample, given back in `object`. [object thread] */
    wan_result (*create)(const wan_solver *table, const wan_options *, const wan_sigmas *,
                         void **object, wan_error *);
    /* Gives the evaluations of step `index`. NULL: 1 [object thread] */
    uint32_t (*evaluations)(void *object, uint64_t index);
    /* Says where evaluation number 1 and later ones of step `index` are made. NULL: at its end
     * [object thread] */
    wan_result (*level)(void *object, uint64_t index, uint32_t evaluation, double *timestep,
                        double *sigma, wan_error *);
    /* Goes on by the velocity of evaluation `evaluation`, from 0, of step `index` at `sample`: where
     * the next evaluation is made, or the end of the step. [object thread] */
    wan_result (*step)(void *object, uint64_t index, uint32_t evaluation, const wan_tensor *sample,
                       const wan_tensor *velocity, const wan_ops *, wan_tensor **out, wan_error *);
    /* As a sampler's. [object thread] */
    wan_result (*extension)(void *object, const char *id, const wan_message *question,
                            const wan_answer *, const wan_ops *, wan_error *);
    /* Ends the object, which releases what it holds. [object thread] */
    void (*destroy)(void *object);
};

/* ---- The plugin --------------------------------------------------------------------------- */

typedef struct wan_plugin {
    uint32_t size;
    uint32_t reserved;
    const wan_sampler *const *samplers; /* each list ends with NULL; NULL: none */
    const wan_cache *const *caches;
    const wan_solver *const *solvers;
} wan_plugin;

/* Gives the plugin, before anything else is called; NULL where it cannot be used.
 * [opening thread] */
WAN_EXPORT const wan_plugin *wan_plugin_entry(const wan_host *host);

#ifdef __cplusplus
}
#endif

#endif
