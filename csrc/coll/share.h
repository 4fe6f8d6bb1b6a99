/* topocomm: messages of programs through memory that the ranks of one host share.
 *
 * A process has one memory file for this, without a name, so nothing is left behind when it is killed. A communicator
 * takes a part of it with an *inbox* for every other member on the host: lines that the member writes messages to. All
 * members make it together, by two exchanges:
 *
 *     tc_share_here(&mine)                     → all ranks' addresses
 *     tc_comm_share(comm, addresses, …, &offer) → all ranks' offers
 *     tc_comm_shared(comm, offers)
 */
#ifndef TOPOCOMM_SHARE_H
#define TOPOCOMM_SHARE_H
#include "coll.h"

#define TC_SHARE_CORES 16 /* words of 64 cores */

typedef struct tc_share_address { /* of a process; plain bytes */
    uint64_t host, nonce;         /* the same host: memory can be shared */
    uint64_t start;               /* when it began */
    int32_t pid, descriptor;
    uint64_t cores[TC_SHARE_CORES]; /* that it may run on */
} tc_share_address;

typedef struct tc_share_offer { /* of a member: its part of the memory; plain bytes */
    uint64_t offset, pointer, key;
    uint32_t ready, members; /* 1: it can reach every member on its host; 0: nobody shares. Members on its host */
} tc_share_offer;

/* How large messages go: read by the receiver out of the sender's memory, where the kernel lets it, or in pieces. */
enum tc_share_way { TC_SHARE_READ, TC_SHARE_PIECES };

typedef struct tc_lost { /* a member on this host */
    uint32_t rank;
    int32_t pid;
} tc_lost;

int tc_share_here(tc_share_address *mine);
/* TC_ERR_UNREACHABLE: memory that the other process shows cannot be opened here. */
int tc_share_reached(const tc_share_address *other);
/* Take this member's part of the memory: of 68 KiB for each other member on the host, but no room is used before messages
 * come; then 4 KiB, and up to 64 KiB for data. `addresses`: of every member. */
int tc_comm_share(tc_comm *comm, const tc_share_address *addresses, uint32_t way, tc_share_offer *mine);
/* Use it, if all members are ready: from now on messages between ranks of one host go through it. Before the first run. */
int tc_comm_shared(tc_comm *comm, const tc_share_offer *offers);
/* Members that messages go to through shared memory. */
uint32_t tc_comm_sharing(const tc_comm *comm);
/* TC_ERR_PEER_LOST: a member on this host ended within the run, or before it · TC_FULL: one is stopped · TC_OK. */
int tc_run_look(tc_run *run, tc_lost *lost);
#endif
