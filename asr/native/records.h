/* How paths came to be: records of the phones and words on them, linked backwards.

   A record of an entry says at which frame a path entered a phone, and which word it wrote, if any. A record of a
   junction says that two paths met which had written different words, and what the dearer one had cost more. Records
   that no path needs any more are dropped when a state is made, and when too many have gathered. */
#pragma once
#include "ngrams.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DROPPED 0xFFFFFFFFu  /* in `word`: a junction whose dearer path is no longer of interest */
#define JUNCTION 0x80000000u /* flag in `word`: not an entry */

typedef struct {
    uint32_t parent; /* the record before */
    uint32_t word;   /* entry: written here, 0 for none. junction: the record of the dearer path, and the flag */
    union {
        uint32_t frame; /* entry: at which the path entered */
        float cost;     /* junction: by how much the other path was dearer, in nats */
    };
    union {
        struct {
            uint16_t unit; /* entry: read at that frame */
            uint16_t kind; /* entry: the unit read from then on */
        };
        float graph; /* junction: its cost of language less that of the cheaper path */
    };
    union {
        float ngram;   /* entry of a word: its cost in nats by the graph, until an LSTM has scored it */
        uint32_t node; /* then: the words of the path up to here */
    };
} Record;

typedef struct {
    Record *all;
    uint32_t count, room;
} Records;

/* Append; returns the number of the record, NONE without memory. */
static inline uint32_t add_record(Records *records, Record one) {
    if (records->count == records->room) {
        uint32_t room = records->room ? records->room * 2 : 1024;
        Record *larger = realloc(records->all, room * sizeof(Record));
        if (!larger) return NONE;
        records->all = larger, records->room = room;
    }
    records->all[records->count] = one;
    return records->count++;
}

/* Keep the records that paths need.

   `over` (count,) holds for the last record of each path what it costs over the best one, and infinity for the others.
   Alternatives that lead to paths dearer than the best one by more than `beam` are forgotten. `place` (count,) becomes
   the new number of each record. Returns how many of the first `scored` are left. */
static inline uint32_t keep_records(Records *records, float *over, uint32_t *place, float beam, uint32_t scored) {
    Record *all = records->all;
    for (uint32_t k = records->count; k-- > 0;) {
        if (isinf(over[k])) continue;
        uint32_t parent = all[k].parent;
        if (parent != NONE && over[k] < over[parent]) over[parent] = over[k];
        if (all[k].word & JUNCTION) {
            uint32_t other = all[k].word & ~JUNCTION;
            float cost = over[k] + all[k].cost;
            if (cost > beam) all[k].word = DROPPED;
            else if (cost < over[other]) over[other] = cost;
        }
    }
    uint32_t kept = 0, left = 0;
    for (uint32_t k = 0; k < records->count; k++) {
        if (k == scored) left = kept;
        if (isinf(over[k])) continue;
        Record one = all[k];
        if (one.word == DROPPED) {
            place[k] = place[one.parent];
            continue;
        }
        if (one.parent != NONE) one.parent = place[one.parent];
        if (one.word & JUNCTION) one.word = place[one.word & ~JUNCTION] | JUNCTION;
        place[k] = kept;
        all[kept++] = one;
    }
    if (scored >= records->count) left = kept;
    records->count = kept;
    return left;
}
