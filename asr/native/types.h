/* What the beam search works on. */
#pragma once
#include "lstm.h"
#include "records.h"

#define PASSES 0x80000000u /* flag in an arc's target: arcs that read nothing go on from there */

typedef struct {
    uint32_t target;
    float weight;
    uint32_t label; /* word * 64 + phone; phone 0: reads nothing */
} Arc;

/* Arcs of a group lie together, the cheapest first: those that read the same phone, and write a word or none. */
static inline uint32_t group_of(const Arc *arc) { return (arc->label & 63) << 1 | (arc->label > 63); }

typedef struct {
    const uint32_t *first;      /* (S + 1,) first arc of each state; of its arcs those that read nothing come first, and
                                   then group by group */
    const Arc *arcs;
    const float *finals;        /* (S,) cost of ending a sentence, infinite where none ends */
    const uint8_t *pausing;     /* (S,) where silence may be inserted */
    const uint16_t *enter;      /* (P, P) unit of the first frame of [phone before, phone] */
    const uint16_t *stay;       /* (P, P) unit of its other frames */
    const uint8_t *phone_of;    /* (K,) phone of each unit */
    const Ngrams *ngrams;       /* of the large model, or NULL */
    const uint32_t *ngram_word; /* (W,) the large model's number of each word, NONE where it knows none */
    const float *bonus;         /* (W,) nats that the large model's cost of each word is lowered by */
    float most_bonus;           /* the largest of them */
    uint32_t start, phones;
    uint32_t forgets;           /* whether an arc that reads nothing ends the phone before it (CTC) */
    float language_weight;      /* factor on the graph's costs */
    float first_weight;         /* what is left of it where the large model has given its cost */
    float second_weight;        /* factor on the large model's costs */
    float word_cost, pause_cost;
    float beam;                 /* nats */
    float lattice_beam;         /* nats, of junctions; 0: none are kept */
    uint32_t most_active;
    uint32_t identity;          /* another one for every search */
    float lstm_weight;          /* of the LSTM in its mean with the n-grams */
    const Lstm *lstm;           /* or NULL */
    const uint32_t *lstm_word;  /* (W,) the LSTM's number of each word */
} Model;

/* What a path is in a frame: STAYED in a phone, NEW by an arc, TOLD of a junction, PASSED on along arcs that read nothing. */
enum { STAYED, NEW, TOLD, PASSED };

typedef struct {
    uint32_t state, context, record, words; /* words: a hash of those written so far */
    float cost;    /* over the best path's */
    float pending; /* of the graph since the last word, before the language weight */
    float graph;   /* all costs of language */
    uint32_t junction; /* 1 + the last record of a junction on the path as it came here, 0 for none */
    uint32_t latest;   /* the same, with the junctions made here */
    uint16_t kind;
    uint16_t fresh; /* NEW and TOLD: arcs that read nothing are still to be followed */
} Token;

/* A sequence of words since the start of an utterance, as the LSTM has read it. */
typedef struct {
    uint32_t parent;  /* without the last word */
    uint32_t word;    /* the last word */
    uint32_t context; /* of the large model */
    uint32_t row;     /* of the LSTM's states after it, NONE before it is needed */
    float lstm;       /* cost in nats of the last word by the LSTM: NaN until it is known, infinite where it has no say */
    float ngram;      /* the same by the large model */
} Node;

/* States of the LSTM (count, D), shared by the states of a search that go on from each other. */
typedef struct {
    uint32_t owners, count;
    float numbers[];
} Rows;

typedef struct {
    Token *tokens;
    uint32_t count, room;
    Records records;
    Node *nodes; /* NULL without an LSTM */
    Rows *rows;
    uint32_t node_count, node_room;
    uint32_t scored; /* records whose words the LSTM has scored */
    uint32_t frames;
    double base; /* cost of the best path */
    float base_graph;
} State;

typedef struct {
    uint32_t context, word, next;
    float cost;
} Cached;

#define CACHE 8192

typedef struct {
    uint32_t stamp, token; /* of the frame that it is used in, else it is free */
} Slot;

/* Memory that a thread uses again and again. */
typedef struct {
    State now, next;
    Slot *slots; /* hash table of the tokens of `next` */
    uint32_t size, stamp;
    uint32_t *place, place_room;
    float *over;
    uint32_t over_room;
    uint32_t *stack, stack_room;
    uint32_t *buckets, bucket_room; /* hash table of nodes */
    uint32_t *asked, asked_room;
    float *fresh; /* (F, D) states of the LSTM after nodes that had none */
    uint32_t fresh_room, fresh_count;
    Work work;
    uint32_t cached_for; /* identity of a search */
    Cached *cache; /* (CACHE,) */
    int failed;    /* out of memory */
} Scratch;

static int reserve(void **memory, uint32_t *room, uint32_t wanted, size_t item) {
    if (wanted <= *room) return 1;
    uint32_t larger = *room ? *room : 256;
    while (larger < wanted) larger *= 2;
    void *moved = realloc(*memory, (size_t)larger * item);
    if (!moved) return 0;
    *memory = moved, *room = larger;
    return 1;
}
