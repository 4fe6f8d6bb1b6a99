/* What libfabric refuses, late or for a while, its functions replaced one by one; arguments: provider, interface. Nothing
 * that is out is forgotten, a peer that died is named, also when the library's error says nothing of it. */
#include "expect.h"
#include "transport/ofi.h"

static tc_options options;
static tc_context *group[3];
static unsigned char source[1 << 16];
static ofi_transport *net;

typedef struct goal { /* a block of another rank's, and a plan of rank 0 that puts there */
    tc_memory *memory;
    tc_signal *signal;
    tc_block *block;
    tc_target *target;
    tc_plan *plan;
    unsigned char *base;
} goal;

static goal aim(uint32_t rank, uint64_t bytes, uint32_t completion, uint32_t tag) {
    goal g;
    void *base;
    uint64_t size;
    tc_layout layout = plain(0, bytes);
    OK(tc_memory_allocate(group[rank], bytes, &g.memory));
    OK(tc_memory_base(g.memory, &base, &size));
    g.base = base;
    OK(tc_signal_create(group[rank], TC_COUNTED, &g.signal));
    g.target = give(g.memory, layout, g.signal, group[0], 0, tag, &g.block);
    OK(tc_plan_create(group[0], completion, &g.plan));
    OK(tc_plan_put(g.plan, g.target, source, &layout, 0));
    return g;
}

/* The same, as the second item of its plan: the first one puts eight bytes elsewhere. */
static goal aim_behind_another(uint32_t rank, uint64_t bytes, uint32_t completion, uint32_t tag) {
    goal g = aim(rank, 8, completion, tag + 100);
    tc_layout layout = plain(0, bytes);
    OK(tc_memory_allocate(group[rank], bytes, &g.memory));
    g.target = give(g.memory, layout, g.signal, group[0], 0, tag, &g.block);
    OK(tc_plan_put(g.plan, g.target, source, &layout, 0));
    return g;
}

/* A plan that is asked looks at its peers itself: so it is asked when it has nothing under way any more. */
static int drive(uint32_t size, tc_plan *plan, double seconds) {
    int status = TC_AGAIN;
    for (double end = now() + seconds; status == TC_AGAIN && now() < end;) {
        for (uint32_t r = 0; r < size; r++)
            if (group[r]) (void)tc_context_progress(group[r]);
        if (!atomic_load(&plan->outstanding)) status = tc_plan_test(plan);
    }
    return status;
}

static void round_of(goal *g, uint32_t size) {
    int status = tc_plan_start(g->plan);
    EXPECT(status == TC_OK);
    OK(drive(size, g->plan, 20));
    OK(tc_signal_wait(g->signal, 20));
    OK(tc_signal_rearm(g->signal));
}

static void open_all(uint32_t size) {
    open_group(size, &options, NULL, group);
    net = (ofi_transport *)group[0]->transports[AT_OFI];
}

static void close_all(void) {
    for (int r = 0; r < 3; r++) {
        if (group[r]) OK(tc_context_close(group[r]));
        group[r] = NULL;
    }
}

static ssize_t refuse(struct fid_ep *ep, const struct fi_msg_rma *message, uint64_t flags) {
    (void)ep, (void)message, (void)flags;
    return -FI_EINVAL;
}

/* The first stripe is out when the second is refused: the plan ends in error, but not before the first is done. */
static void a_later_stripe(void) {
    uint32_t item, rank, tag;
    open_all(2);
    goal other = aim(1, 64, TC_LOCAL, 1), g = aim_behind_another(1, sizeof source, TC_LOCAL, 7);
    round_of(&g, 2);
    round_of(&other, 2);
    struct fi_ops_rma *good = net->rail[1].ep->rma, bad = *good;
    bad.writemsg = refuse;
    net->rail[1].ep->rma = &bad;
    uint32_t used = net->used;
    int status = tc_plan_start(g.plan);
    EXPECT(net->used == used + atomic_load(&g.plan->outstanding));
    if (status == TC_OK) status = drive(2, g.plan, 20);
    EXPECT_STATUS(status, TC_ERR_TRANSPORT);
    EXPECT(atomic_load(&g.plan->outstanding) == 0 && net->used == used);
    OK(tc_plan_culprit(g.plan, &item, &rank, &tag));
    EXPECT(item == 1 && rank == 1 && tag == 7);
    EXPECT_STATUS(tc_signal_test(g.signal), TC_AGAIN);
    round_of(&other, 2); /* on the rail that works */
    net->rail[0].ep->rma = &bad; /* nothing is out: nothing has moved, and it may start again */
    EXPECT_STATUS(tc_plan_start(other.plan), TC_ERR_TRANSPORT);
    net->rail[0].ep->rma = net->rail[1].ep->rma = good;
    round_of(&other, 2);
    OK(tc_plan_free(g.plan));
    OK(tc_plan_free(other.plan));
    close_all();
}

static int errors_to_come;
static net_op *failing[2];

static ssize_t read_error(struct fid_cq *cq, void *entries, size_t count) {
    (void)cq, (void)entries, (void)count;
    return errors_to_come ? -FI_EAVAIL : -FI_EAGAIN; /* and what the library really has to say is not heard */
}

static ssize_t tell_error(struct fid_cq *cq, struct fi_cq_err_entry *entry, uint64_t flags) {
    (void)cq, (void)flags;
    *entry = (struct fi_cq_err_entry){.op_context = failing[--errors_to_come], .err = FI_ECANCELED};
    return 1;
}

/* "Cancelled" says nothing of the peer: if it is found dead a little later it is named, else the network has failed. */
static void an_error_that_does_not_say(bool dies) {
    uint32_t lost, item, rank, tag;
    open_all(2);
    goal before = aim(1, 8, TC_LOCAL, 1), g = aim_behind_another(1, 8, TC_REMOTE, 9);
    round_of(&before, 2);
    OK(tc_plan_start(g.plan));
    EXPECT(atomic_load(&g.plan->outstanding) == 2);
    for (uint32_t i = 0; i < options.outstanding + RESERVE; i++)
        if (net->ops[i].plan == g.plan) failing[net->ops[i].target == g.target] = &net->ops[i];
    EXPECT(failing[0] && failing[1]);
    tc_context *peer_context = group[1];
    group[1] = NULL; /* it does not call in any more */
    struct fi_ops_cq *good = net->rail[0].cq->ops, bad = *good;
    bad.read = read_error;
    bad.readerr = tell_error;
    net->rail[0].cq->ops = &bad;
    errors_to_come = 2;
    EXPECT_STATUS(drive(1, g.plan, 0.1), TC_AGAIN);
    if (dies) OK(tc_context_close(peer_context));
    EXPECT_STATUS(drive(1, g.plan, 1), dies ? TC_ERR_PEER_LOST : TC_ERR_TRANSPORT);
    EXPECT_STATUS(tc_context_lost(group[0], &lost), dies ? TC_OK : TC_AGAIN);
    EXPECT(!dies || lost == 1);
    OK(tc_plan_culprit(g.plan, &item, &rank, &tag));
    EXPECT(item == 1 && rank == 1 && tag == 9); /* the one judged last */
    net->rail[0].cq->ops = good;
    OK(tc_plan_free(before.plan));
    OK(tc_plan_free(g.plan));
    close_all();
    if (!dies) OK(tc_context_close(peer_context));
}

static struct fi_ops_rma *good_rma;
static fi_addr_t full;

static ssize_t no_room(struct fid_ep *ep, const struct fi_msg_rma *message, uint64_t flags) {
    return message->addr == full ? -FI_EAGAIN : good_rma->writemsg(ep, message, flags);
}

/* One peer for whom the library has no room holds up nobody else, and is found out if it has died. */
static void a_full_queue(void) {
    uint32_t lost;
    open_all(3);
    goal a = aim_behind_another(1, 8, TC_LOCAL, 1), b = aim(2, 8, TC_LOCAL, 2);
    round_of(&a, 3);
    round_of(&b, 3);
    good_rma = net->rail[0].ep->rma;
    struct fi_ops_rma bad = *good_rma;
    bad.writemsg = no_room;
    full = ((links *)group[0]->peers[1].network)->address[0];
    net->rail[0].ep->rma = &bad;
    OK(tc_plan_start(a.plan));
    OK(tc_plan_start(b.plan));
    EXPECT(net->delayed_first != NULL);
    OK(drive(3, b.plan, 2));
    OK(tc_signal_wait(b.signal, 2));
    for (double end = now() + 0.15; now() < end;) { /* its own stay in their order */
        OK(tc_context_progress(group[0]));
        EXPECT(net->delayed_first->target != a.target && net->delayed_last->target == a.target);
    }
    EXPECT_STATUS(tc_plan_test(a.plan), TC_AGAIN);
    OK(tc_context_close(group[1]));
    group[1] = NULL;
    EXPECT_STATUS(drive(3, a.plan, 2), TC_ERR_PEER_LOST);
    OK(tc_context_lost(group[0], &lost));
    EXPECT(lost == 1 && net->delayed_first == NULL);
    net->rail[0].ep->rma = good_rma;
    OK(tc_plan_free(a.plan));
    OK(tc_plan_free(b.plan));
    close_all();
}

static struct fi_ops_msg *good_msg;
static int refusals;

static ssize_t receive_later(struct fid_ep *ep, void *buffer, size_t bytes, void *desc, fi_addr_t from, void *user) {
    return refusals-- > 0 ? -FI_EAGAIN : good_msg->recv(ep, buffer, bytes, desc, from, user);
}

/* Messages come in together while the library takes no receives: each is read, and each receive posted in the end. */
static void receives_refused(void) {
    enum { N = 40 };
    tc_block *blocks[N];
    tc_layout layout = plain(0, 8);
    open_all(2);
    goal g = aim(1, 8, TC_LOCAL, 1);
    round_of(&g, 2);
    for (uint32_t i = 0; i < N; i++) OK(tc_block_issue(g.memory, &layout, g.signal, 0, i, &blocks[i]));
    good_msg = net->rail[0].ep->msg;
    struct fi_ops_msg bad = *good_msg;
    bad.recv = receive_later;
    refusals = 100;
    net->rail[0].ep->msg = &bad;
    for (int times = 0; times < 4; times++) { /* each receive is used more than once */
        for (uint32_t i = 0; i < N; i++) OK(tc_block_free(blocks[i]));
        for (int i = 0; i < 3000; i++) {
            OK(tc_context_progress(group[1]));
            if (i > 1000) OK(tc_context_progress(group[0]));
        }
        for (uint32_t i = 0; i < N; i++) EXPECT(group[0]->peers[1].freed[blocks[i]->index] == blocks[i]->generation);
        for (uint32_t i = 0; i < N; i++) OK(tc_block_issue(g.memory, &layout, g.signal, 0, i, &blocks[i]));
    }
    EXPECT(refusals <= 0);
    net->rail[0].ep->msg = good_msg;
    OK(tc_plan_free(g.plan));
    close_all();
}

/* Longer than the library takes at once: puts in up to eight pieces, gets in any number; more is refused at the plan. */
static void long_messages(void) {
    static unsigned char got[8000];
    tc_stats before, after;
    tc_signal *stream;
    tc_block *b;
    tc_plan *plan;
    tc_layout layout = plain(0, 8000), over = plain(0, 8001), flow = plain(0, 1001);
    open_all(2);
    net->longest = net->base.longest = 1000;
    goal g = aim(1, 8000, TC_LOCAL, 1);
    OK(tc_context_stats(group[0], &before));
    round_of(&g, 2);
    OK(tc_context_stats(group[0], &after));
    EXPECT(after.pieces - before.pieces == 8 && after.messages - before.messages == 1);
    EXPECT(memcmp(g.base, source, 8000) == 0);
    OK(tc_plan_free(g.plan));
    OK(tc_plan_create(group[0], TC_LOCAL, &g.plan));
    OK(tc_plan_get(g.plan, g.target, got, &layout, 0));
    round_of(&g, 2);
    EXPECT(memcmp(got, source, 8000) == 0);
    OK(tc_plan_free(g.plan));
    tc_memory *memory;
    OK(tc_memory_allocate(group[1], 8001, &memory));
    tc_target *target = give(memory, over, g.signal, group[0], 0, 2, &b);
    OK(tc_signal_create(group[1], TC_STREAM, &stream));
    tc_target *river = give(memory, flow, stream, group[0], 0, 3, &b);
    OK(tc_plan_create(group[0], TC_LOCAL, &plan));
    EXPECT_STATUS(tc_plan_put(plan, target, source, &over, 0), TC_ERR_LIMIT);
    EXPECT_STATUS(tc_plan_put(plan, river, source, &flow, 0), TC_ERR_LIMIT);
    OK(tc_plan_free(plan));
    close_all();
}

int main(int argc, char **argv) {
    EXPECT(argc == 3);
    options = shm_options();
    options.transports = TC_OFI;
    options.stripe_from = 1024;
    snprintf(options.provider, sizeof options.provider, "%s", argv[1]);
    snprintf(options.nics, sizeof options.nics, "%s,%s", argv[2], argv[2]);
    for (size_t i = 0; i < sizeof source; i++) source[i] = (unsigned char)(i * 7 + (i >> 8));
    a_later_stripe();
    an_error_that_does_not_say(true);
    an_error_that_does_not_say(false);
    a_full_queue();
    receives_refused();
    long_messages();
    return 0;
}
