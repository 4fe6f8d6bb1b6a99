/* Functions that the core's files share with each other, from the bottom up: each file uses those above it only. */
#ifndef TOPOCOMM_INTERNAL_H
#define TOPOCOMM_INTERNAL_H
#include "handles.h"
#include "transport.h"

#define CHECK_SECONDS 0.02 /* how often a waiter asks whether its peers live */
#define SPINS 200u         /* tests between looks at the clock */

/* --- base.c ------------------------------------------------------------------------------------------------------ */
double now(void); /* seconds, of a clock that never goes back */
uint64_t checksum(const void *data, size_t bytes);
/* One thread at a time is between enter and leave: the caller's, or the progress thread. The same one may enter again. */
void enter(tc_context *context);
void leave(tc_context *context);
/* One operation of a plan ended: TC_OK, or the error that the plan then ends with. */
void op_done(tc_plan *plan, int status);

/* --- wait.c: a waiter spins, then yields; now and then it looks at the clock and at the peers ---------------------- */
typedef struct patience {
    double limit, next_check, yield_from;
    uint32_t spins;
} patience;
void patience_start(patience *p, double seconds);
/* TC_OK: go on · TC_ERR_TIMEOUT. Sets `check_peers` when it is time to look at them. */
int patience_step(tc_context *context, patience *p, bool *check_peers);
/* For those who poll in vain: let the program's other communication move; return whether it is time to look at the peers. */
bool check_due(tc_context *context);

/* --- layout.c ---------------------------------------------------------------------------------------------------- */
uint64_t layout_bytes(const tc_layout *layout);
bool layout_fits(const tc_layout *layout, uint64_t room);
bool layout_contiguous(const tc_layout *layout);
tc_layout layout_simple(uint64_t offset, uint64_t bytes);
/* Return where byte `at` of the sequence lies; `rest`: how many bytes of its run follow, itself included. */
uint64_t layout_locate(const tc_layout *layout, uint64_t at, uint64_t *rest);
/* Call run(user, left offset, right offset, bytes) for each stretch that is contiguous on both sides. */
typedef int (*run_function)(void *user, uint64_t left, uint64_t right, uint64_t bytes);
int layout_pairs(const tc_layout *left, const tc_layout *right, uint64_t from, uint64_t bytes, run_function run,
                 void *user);
void layout_copy(char *to, const tc_layout *to_layout, const char *from, const tc_layout *from_layout, uint64_t start,
                 uint64_t bytes);
/* Pack the bytes of a put's piece. */
void gather(char *to, const tc_op *op, uint64_t from, uint64_t bytes);
/* Return how many bytes of [from, from + bytes) of a put belong to its head. */
uint64_t of_head(const tc_op *op, uint64_t from, uint64_t bytes);

/* --- segment.c --------------------------------------------------------------------------------------------------- */
int seg_create(tc_context *context);
int seg_attach(peer *p);
void seg_detach(peer *p);
uint64_t node_identity(void);
int map_descriptor(int32_t pid, int32_t descriptor, uint64_t bytes, void **base);
bool queue_full(const seg_view *view, uint32_t queue);
int queue_reserve(const seg_view *view, uint32_t queue, uint64_t *ticket);
void queue_publish(const seg_view *view, uint32_t queue, uint64_t ticket, const tc_event *event);
int queue_take(const seg_view *view, uint32_t queue, tc_event *event);

/* --- arrive.c ---------------------------------------------------------------------------------------------------- */
typedef struct arrival {
    uint32_t block, generation, generation_mask;
    uint32_t piece, pieces;
    uint64_t epoch, value;
    bool landed; /* a strided block lies packed in its landing, to be spread out */
} arrival;
int arrive_piece(seg_block *block, uint64_t epoch, uint32_t piece, uint32_t pieces);
void arrive_message(seg_signal *signal, seg_block *block, uint64_t epoch);
int arrive(tc_context *context, const arrival *a);
tc_block *block_of(tc_context *context, uint32_t index, uint32_t generation, uint32_t mask);
uint64_t full_epoch(const seg_signal *signal, uint32_t low_bits);

/* --- live.c: connections that show whether a network's peers live ------------------------------------------------- */
int live_open(tc_context *context);
int live_address(tc_context *context, wire_address *address);
void live_dial(tc_context *context, uint32_t peer_rank);
bool live_check(tc_context *context, uint32_t peer_rank);
void live_close(tc_context *context);

/* --- peers.c ----------------------------------------------------------------------------------------------------- */
/* Return whether this process may read and write that one's memory (cross-memory attach). */
bool may_cross(const wire_address *address);
/* Note that a peer is lost; return TC_ERR_PEER_LOST. */
int lose(tc_context *context, uint32_t peer_rank);

/* --- progress.c -------------------------------------------------------------------------------------------------- */
/* Drive all transports once, unless another thread does: TC_OK, or an error. */
int progress(tc_context *context);

/* --- check.c: checked mode ----------------------------------------------------------------------------------------- */
int check_proof(tc_context *context, const tc_target *target);
void note_published(_Atomic uint64_t *published, _Atomic uint64_t *published_by, uint64_t consumed, uint64_t number);
void publish_consumed(tc_context *context, uint32_t peer_rank, uint64_t number);

/* --- message.c --------------------------------------------------------------------------------------------------- */
int message_read(const tc_context *context, const void *data, size_t bytes, message *out);
int message_handle(tc_context *context, const void *data, size_t bytes);
int message_prove(tc_context *context, const tc_target *target, uint64_t number, uint64_t epoch);
int message_freed(const tc_block *block);
bool was_freed(const peer *p, const wire_block *wire);

/* --- memory.c: landings ------------------------------------------------------------------------------------------ */
int landing_allocate(tc_context *context, uint64_t bytes, tc_memory **landing);
void landing_retire(tc_memory *landing);

/* --- signal.c, block.c, plan.c ----------------------------------------------------------------------------------- */
void signal_forget(const tc_block *block);
void block_release(tc_block *block);
int plan_advance(tc_plan *plan);
void plan_count(const tc_plan *plan, tc_stats *stats);
#endif
