/* The libfabric transport: types and functions that its files (ofi_*.c) share, each using those above it only. */
#ifndef TOPOCOMM_OFI_H
#define TOPOCOMM_OFI_H
#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include "internal.h"

/* The library is opened when a context asks for it, not linked: an MPI library may bring its own under the same name,
 * and must find that one if it is loaded later. What is compiled here asks for the interface of these versions. */
typedef struct library {
    void *handle;
    int (*getinfo)(uint32_t, const char *, const char *, uint64_t, const struct fi_info *, struct fi_info **);
    void (*freeinfo)(struct fi_info *);
    struct fi_info *(*dupinfo)(const struct fi_info *);
    int (*fabric)(struct fi_fabric_attr *, struct fid_fabric **, void *);
    uint32_t (*version)(void);
} library;

#define RECEIVES 64 /* messages that may arrive between two progress calls */
#define RECEIVE_BYTES MESSAGE_BYTES
#define BATCH 16 /* completions read at once */
#define RESERVE 64 /* slots for messages between peers only */
#define GRACE_SECONDS 0.5 /* how long after an error of the library its peer may still be found dead */
#define CODE_READ 63u /* in place of piece and pieces: the memory was read */

enum work { WORK_WRITE, WORK_READ, WORK_SEND, WORK_RECEIVE };

/* One operation of the library; its own space comes first, as its FI_CONTEXT modes ask. */
typedef struct net_op {
    struct fi_context2 space;
    struct net_op *next;
    enum work work;
    uint32_t rail, rank; /* rank: of the peer it goes to */
    tc_plan *plan;
    tc_target *target;
    char *buffer, *owned;     /* owned: packed or private bytes, freed at the end */
    const char *head; /* bytes that a write takes from here before those of `buffer` */
    size_t head_bytes, bytes;
    struct fid_mr *mr;        /* registered for this operation only */
    void *desc;
    struct net_op *parent;    /* of a read of one run of a strided get */
    uint64_t cursor;          /* strided get: bytes asked for so far */
    uint32_t children;        /* strided get: reads under way */
    int error;
    fi_addr_t peer;
    uint64_t address, key;
    uint32_t data;
    bool remote;
    double deadline;          /* of a suspect: when its peer counts as alive */
    tc_op op;
} net_op;

typedef struct rail {
    struct fi_info *info;
    struct fid_fabric *fabric;
    struct fid_domain *domain;
    struct fid_av *av;
    struct fid_cq *cq;
    struct fid_ep *ep;
    double weight;
} rail;

typedef struct ofi_transport {
    tc_transport base;
    rail rail[TC_MAX_RAILS];
    library library;
    uint32_t rails, used;
    uint64_t keys;
    net_op *free_ops, *ops, *delayed_first, *delayed_last;
    net_op *reading;  /* gets with runs to ask for */
    net_op *suspects; /* failed with an error that does not show whether the peer lives */
    double judged, first_since; /* when suspects were looked at; since when `first` is the first delayed one */
    net_op *first;
    uint32_t refusals;
    uint64_t longest; /* bytes that the library takes at once, over any rail */
    net_op receive[RECEIVES];
    char *receive_memory;
    struct fid_mr *receive_mr;
    char nothing[8]; /* registered where a memory has no byte */
} ofi_transport;

typedef struct links { /* of one peer */
    uint32_t rails;
    fi_addr_t address[TC_MAX_RAILS];
} links;

/* Return whether the interface asks for this mode of registering memory. */
static inline bool wants(const rail *r, uint64_t mode) {
    return (uint64_t)r->info->domain_attr->mr_mode & mode;
}

/* --- ofi_transfer.c ------------------------------------------------------------------------------------------------ */
int ofi_post(tc_transport *transport, const tc_op *op);
int ofi_tell(tc_transport *transport, uint32_t peer_rank, char *message, size_t bytes);
void ofi_read_more(ofi_transport *t);
ssize_t ofi_submit(ofi_transport *t, net_op *n);
void ofi_delay(ofi_transport *t, net_op *n);
/* Return TC_ERR_PEER_LOST if this error, or the peer's silence, means that it is gone; it is lost from then on. */
int ofi_blame(const ofi_transport *t, const net_op *n, int error);
void ofi_finish(ofi_transport *t, net_op *n, int status);
void ofi_read_done(ofi_transport *t, net_op *n);

/* --- ofi_progress.c ------------------------------------------------------------------------------------------------ */
int ofi_post_receive(ofi_transport *t, net_op *n);
int ofi_progress(tc_transport *transport);
bool ofi_idle(tc_transport *transport);
#endif
