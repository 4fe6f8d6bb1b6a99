/* Peers: their addresses, the transport that leads to each, and whether they live. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "internal.h"

#define ADDRESS_MAGIC 0x54434144u
#define ADDRESS_VERSION 1u

int tc_context_address(tc_context *context, void *address, size_t capacity, size_t *bytes) {
    wire_address wire;
    if (!context || !address || !bytes || capacity < sizeof wire) return TC_ERR_ARGUMENT;
    memset(&wire, 0, sizeof wire);
    wire.magic = ADDRESS_MAGIC;
    wire.version = ADDRESS_VERSION;
    wire.rank = context->options.rank;
    wire.kinds = context->options.transports;
    wire.node = context->node;
    wire.nonce = context->nonce;
    wire.probe = (uint64_t)(uintptr_t)&context->nonce;
    wire.nonce_address = (uint64_t)(uintptr_t)context->view.head;
    wire.segment_bytes = context->view.bytes;
    wire.pid = (int32_t)getpid();
    wire.descriptor = context->descriptor;
    wire.checked = context->options.checked;
    if (sched_getaffinity(0, sizeof wire.cores, (cpu_set_t *)(void *)wire.cores) < 0) wire.cores[0] = ~0ull;
    for (uint32_t i = 0; i < TRANSPORTS; i++) {
        tc_transport *t = context->transports[i];
        int status = t && t->address ? t->address(t, &wire) : TC_OK;
        if (status) return status;
    }
    memcpy(address, &wire, sizeof wire);
    *bytes = sizeof wire;
    return TC_OK;
}

/* Tried by reading a number that only the right process has. */
bool may_cross(const wire_address *a) {
    uint64_t nonce = 0;
    struct iovec here = {&nonce, sizeof nonce}, there = {(void *)(uintptr_t)a->probe, sizeof nonce};
    return process_vm_readv(a->pid, &here, 1, &there, 1, 0) == sizeof nonce && nonce == a->nonce;
}

static int choose(tc_context *context, peer *p) {
    const wire_address *a = &p->address;
    uint32_t allowed = context->options.transports & a->kinds;
    p->here = a->pid == (int32_t)getpid() && a->node == context->node && may_cross(a);
    for (uint32_t i = AT_SHM; i < TRANSPORTS && !p->inner; i++) {
        tc_transport *t = context->transports[i];
        if (t && (allowed & t->kind) && t->connect(t, p) == TC_OK) p->inner = t;
    }
    if (!p->inner) return TC_ERR_UNREACHABLE;
    p->transport = context->transports[AT_SIM] ? context->transports[AT_SIM] : p->inner;
    if (p->transport->progress) context->driven = true;
    return TC_OK;
}

/* Note the cores that a peer on this node shares with this process, and how to see that it ends. */
static void watch(tc_context *context, peer *p) {
    const wire_address *a = &p->address;
    uint32_t cores = 0;
    for (uint32_t i = 0; i < CORE_WORDS; i++) cores += (uint32_t)__builtin_popcountll(context->cores[i] |= a->cores[i]);
    context->crowded = ++context->local > cores;
    if (p->pidfd < 0 && !p->here) p->pidfd = (int)syscall(SYS_pidfd_open, a->pid, 0);
    p->known = p->pidfd >= 0 || p->mapped || may_cross(a); /* else the number may be of another's counting */
}

int tc_context_connect(tc_context *context, uint32_t rank, const void *address, size_t bytes) {
    wire_address wire;
    if (!context || !address || rank >= context->options.size) return TC_ERR_ARGUMENT;
    if (bytes < sizeof wire) return TC_ERR_BLOCK;
    memcpy(&wire, address, sizeof wire);
    if (wire.magic != ADDRESS_MAGIC || wire.version != ADDRESS_VERSION || wire.rank != rank) return TC_ERR_BLOCK;
    if (wire.checked != context->options.checked) return TC_ERR_ARGUMENT; /* all checked, or none */
    peer *p = &context->peers[rank];
    if (p->connected) return TC_ERR_BUSY;
    enter(context);
    p->address = wire;
    int status = choose(context, p);
    if (status == TC_OK && wire.node == context->node) watch(context, p);
    p->connected = status == TC_OK;
    leave(context);
    return status;
}

/* --- who lives ---------------------------------------------------------------------------------------------- */
static bool process_gone(const peer *p) {
    if (p->here || !p->known) return false;
    if (p->pidfd >= 0) {
        struct pollfd ready = {.fd = p->pidfd, .events = POLLIN};
        return poll(&ready, 1, 0) == 1;
    }
    return kill(p->address.pid, 0) != 0 && errno == ESRCH;
}

int tc_peer_alive(tc_context *context, uint32_t rank) {
    if (!context || rank >= context->options.size) return TC_ERR_ARGUMENT;
    peer *p = &context->peers[rank];
    if (!p->connected) return TC_ERR_UNREACHABLE;
    if (p->lost) return TC_ERR_PEER_LOST;
    if (p->mapped) return atomic_load(&p->view.head->closed) || process_gone(p) ? TC_ERR_PEER_LOST : TC_OK;
    if (p->address.node == context->node && process_gone(p)) return TC_ERR_PEER_LOST;
    if (!p->inner->network) return TC_OK;
    enter(context);
    bool lives = live_check(context, rank);
    leave(context);
    return lives ? TC_OK : TC_ERR_PEER_LOST;
}

int lose(tc_context *context, uint32_t rank) {
    context->peers[rank].lost = true;
    context->lost = rank;
    return TC_ERR_PEER_LOST;
}

int tc_context_lost(tc_context *context, uint32_t *rank) {
    if (!context || !rank) return TC_ERR_ARGUMENT;
    if (!context->peers[context->lost].lost) return TC_AGAIN;
    *rank = context->lost;
    return TC_OK;
}

int tc_peer_transport(tc_context *context, uint32_t rank, uint32_t *kind) {
    if (!context || !kind || rank >= context->options.size) return TC_ERR_ARGUMENT;
    if (!context->peers[rank].connected) return TC_ERR_UNREACHABLE;
    *kind = context->peers[rank].inner->kind;
    return TC_OK;
}
