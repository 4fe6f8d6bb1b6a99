/* Bytes that travel: addresses, blocks, and messages between peers. */
#ifndef TOPOCOMM_WIRE_H
#define TOPOCOMM_WIRE_H
#include <stdint.h>

#include "topocomm.h"

#define RAIL_NAME_BYTES 64
#define CORE_WORDS 16 /* of 64 processor cores each */

typedef struct wire_rail { /* how a network reaches memory over one NIC */
    uint64_t address, key;
} wire_rail;

typedef struct wire_block {
    uint32_t magic, version, owner, source;
    uint32_t block, generation, signal, tag;
    uint32_t stream, memory_kind, rails, landing; /* landing: rail[] is where a strided block is put, packed */
    int32_t descriptor;
    uint32_t index_bits; /* bits of a network's notification that name the block; of 16, the rest its generation */
    uint64_t nonce, epoch, base, memory_bytes, bytes;
    tc_layout layout;
    wire_rail rail[TC_MAX_RAILS];
    wire_rail direct; /* over the first rail: the memory itself, for gets of a strided block */
    uint64_t check;   /* sum of all bytes before it */
} wire_block;
_Static_assert(sizeof(wire_block) <= TC_BLOCK_BYTES, "TC_BLOCK_BYTES too small");

typedef struct wire_address {
    uint32_t magic, version, rank, kinds; /* kinds: transports allowed */
    uint64_t node, nonce, probe, nonce_address, segment_bytes;
    int32_t pid, descriptor;
    uint32_t checked, rails;
    uint8_t live[32]; /* where live.c listens */
    uint32_t live_bytes, spare;
    uint64_t cores[CORE_WORDS]; /* mask of the processor cores that this process may run on */
    uint8_t rail[TC_MAX_RAILS][RAIL_NAME_BYTES];
    uint32_t rail_bytes[TC_MAX_RAILS];
} wire_address;
_Static_assert(sizeof(wire_address) <= TC_ADDRESS_BYTES, "TC_ADDRESS_BYTES too small");

/* Messages: puts and gets where nothing better leads to a peer (transport/mpi.c), the others beside any transport that
 * cannot show them in shared memory (message.c). */
#define MESSAGE_MAGIC 0x54434d31u
#define MESSAGE_BYTES 16384u /* length limit of a message that is not a put or a get */
enum message_kind {
    MESSAGE_PUT = 1,
    MESSAGE_GET,
    MESSAGE_REPLY,
    MESSAGE_DONE,
    MESSAGE_PROOF,
    MESSAGE_FREED,
    MESSAGE_BYE
};

typedef struct message {
    uint32_t magic, kind, origin, block, generation, piece, pieces, wanted; /* wanted: answer with MESSAGE_DONE */
    uint64_t epoch, value, number;
    uint64_t offset, from, bytes; /* into the block; into the message; length of this piece */
    uint64_t ticket;
} message;

typedef struct notice { /* any number of them follow a MESSAGE_PROOF */
    uint32_t block, generation;
    uint64_t consumed; /* epochs */
} notice;
#endif
