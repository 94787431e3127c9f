/* What the paths of a search have written, as an LSTM reads it: a tree of words, with the LSTM's state after those that it
   had to read on from. Each state of a search has a tree of its own; they share what the LSTM computed. */
#pragma once
#include "types.h"

/* The words of a path that ends with a scored record. */
static inline uint32_t node_of(const State *state, uint32_t record) {
    return record == NONE ? 0 : state->records.all[record].node;
}

static void release_rows(Rows *rows) {
    if (rows && !__atomic_sub_fetch(&rows->owners, 1, __ATOMIC_ACQ_REL)) free(rows);
}

static Rows *new_rows(const Lstm *lstm, uint32_t count) {
    Rows *rows = malloc(sizeof(Rows) + (size_t)count * state_size(lstm) * sizeof(float));
    if (rows) rows->owners = 1, rows->count = count;
    return rows;
}

/* Give a new state the nodes of the one before, or the first one: no words yet, and the LSTM's state `context` (D,). */
static int copy_nodes(State *state, const Model *m, const State *before, const float *context) {
    Node root = {NONE, NONE, NONE, 0, 0, 0};
    if (m->ngrams) root.context = context_of_word(m->ngrams, m->ngrams->words + 1);
    const Node *nodes = before ? before->nodes : &root;
    state->node_count = state->node_room = before ? before->node_count : 1;
    state->nodes = malloc(state->node_count * sizeof(Node));
    if (!state->nodes) return 0;
    memcpy(state->nodes, nodes, state->node_count * sizeof(Node));
    if (before) {
        __atomic_add_fetch(&before->rows->owners, 1, __ATOMIC_RELAXED);
        state->rows = before->rows;
    } else if ((state->rows = new_rows(m->lstm, 1))) {
        memcpy(state->rows->numbers, context, state_size(m->lstm) * sizeof(float));
    }
    return state->rows != NULL;
}

static uint32_t bucket_of(const Scratch *x, const State *s, uint32_t parent, uint32_t word) {
    uint32_t bucket = (parent * 2654435761u ^ word * 2246822519u) >> 7;
    for (;; bucket++) {
        bucket &= x->bucket_room - 1;
        uint32_t node = x->buckets[bucket];
        if (node == NONE || (s->nodes[node].parent == parent && s->nodes[node].word == word)) return bucket;
    }
}

/* The words of a node and one more; without memory NONE. */
static uint32_t child_of(Scratch *x, const Model *m, State *s, uint32_t parent, uint32_t word) {
    uint32_t bucket = bucket_of(x, s, parent, word);
    if (x->buckets[bucket] != NONE) return x->buckets[bucket];
    if (!reserve((void **)&s->nodes, &s->node_room, s->node_count + 1, sizeof(Node))) return NONE;
    Node child = {parent, word, NONE, NONE, NAN, 0};
    if (m->ngrams) {
        uint32_t known = m->ngram_word[word];
        if (known == NONE) child.lstm = INFINITY;
        else child.ngram = word_cost_after(m->ngrams, s->nodes[parent].context, known, &child.context);
    }
    s->nodes[s->node_count] = child;
    return x->buckets[bucket] = s->node_count++;
}

/* Make the hash table of the nodes, with room for so many more; they are a quarter of it at most. */
static int index_nodes(Scratch *x, const State *s, uint32_t more) {
    if (!reserve((void **)&x->buckets, &x->bucket_room, 4 * (s->node_count + more) + 4, sizeof(uint32_t))) return 0;
    memset(x->buckets, 0xFF, x->bucket_room * sizeof(uint32_t));
    for (uint32_t k = 1; k < s->node_count; k++)
        x->buckets[bucket_of(x, s, s->nodes[k].parent, s->nodes[k].word)] = k;
    return 1;
}

/* Forget the words that no path goes on from, but for those whose state of the LSTM is still to be computed from. */
static void keep_nodes(Scratch *x, State *s) {
    uint32_t *place = x->buckets, kept = 0;
    for (uint32_t k = 0; k < s->node_count; k++) place[k] = NONE;
    for (uint32_t k = 0; k < s->count; k++) place[node_of(s, s->tokens[k].record)] = 0;
    for (uint32_t k = s->node_count; k-- > 1;)
        if (place[k] != NONE && s->nodes[k].row == NONE) place[s->nodes[k].parent] = 0;
    for (uint32_t k = 0; k < s->node_count; k++) {
        if (place[k] == NONE) continue;
        Node one = s->nodes[k];
        if (one.parent != NONE) one.parent = place[one.parent];
        place[k] = kept;
        s->nodes[kept++] = one;
    }
    s->node_count = kept;
    for (uint32_t k = 0; k < s->records.count; k++)
        if (s->records.all[k].node != NONE) s->records.all[k].node = place[s->records.all[k].node];
}

/* Keep the LSTM's states after the nodes that are left; 0 without memory. */
static int keep_rows(const Model *m, Scratch *x, State *s) {
    uint32_t count = 0, old = s->rows->count, size = state_size(m->lstm);
    for (uint32_t k = 0; k < s->node_count; k++) count += s->nodes[k].row != NONE;
    if (count == old && !x->fresh_count) return 1;
    Rows *rows = new_rows(m->lstm, count);
    if (!rows) return 0;
    float *place = rows->numbers;
    for (uint32_t k = 0, next = 0; k < s->node_count; k++) {
        uint32_t row = s->nodes[k].row;
        if (row == NONE) continue;
        const float *from = row < old ? s->rows->numbers + (size_t)row * size : x->fresh + (size_t)(row - old) * size;
        memcpy(place, from, size * sizeof(float));
        place += size, s->nodes[k].row = next++;
    }
    release_rows(s->rows);
    s->rows = rows, x->fresh_count = 0;
    return 1;
}

static const float *row_of(const Model *m, const Scratch *x, const State *s, uint32_t node) {
    uint32_t row = s->nodes[node].row, old = s->rows->count, size = state_size(m->lstm);
    return row < old ? s->rows->numbers + (size_t)row * size : x->fresh + (size_t)(row - old) * size;
}

/* Let the LSTM read the last words of some nodes, at most GROUP, whose parents have rows; 0 without memory. */
static int read_nodes(const Model *m, Scratch *x, State *s, const uint32_t *nodes, uint32_t count) {
    const float *before[GROUP];
    float *after[GROUP];
    uint32_t words[GROUP], size = state_size(m->lstm);
    if (!reserve((void **)&x->fresh, &x->fresh_room, (x->fresh_count + count) * size, sizeof(float))) return 0;
    for (uint32_t n = 0; n < count; n++) {
        Node *node = &s->nodes[nodes[n]];
        words[n] = m->lstm_word[node->word];
        before[n] = row_of(m, x, s, node->parent);
        after[n] = x->fresh + (size_t)x->fresh_count * size;
        node->row = s->rows->count + x->fresh_count++;
    }
    read_words(m->lstm, &x->work, words, before, after, count);
    return 1;
}

/* Give rows to the nodes that are marked in `wanted` (node_count,) and to those that they go on from; 0 without memory. */
static int give_rows(const Model *m, Scratch *x, State *s, uint8_t *wanted) {
    const Node *nodes = s->nodes;
    uint32_t group[GROUP], count = 0;
    for (uint32_t k = s->node_count; k-- > 1;)
        if (wanted[k] && nodes[k].row == NONE) wanted[nodes[k].parent] = 1;
    for (uint32_t k = 1; k < s->node_count; k++) { /* parents come before their children */
        if (!wanted[k] || nodes[k].row != NONE) continue;
        if (count == GROUP || (count && nodes[nodes[k].parent].row == NONE)) {
            if (!read_nodes(m, x, s, group, count)) return 0;
            count = 0;
        }
        group[count++] = k;
    }
    return !count || read_nodes(m, x, s, group, count);
}

/* What the LSTM is asked: words after nodes. Lists of them, by node. */
typedef struct {
    uint32_t *first, *next; /* (node_count,) of each node's list and of each member of one, NONE where it ends */
    uint32_t *words, *after;
    float *found, *costs;
    uint8_t *wanted; /* (node_count,) nodes that have a list */
} Questions;

static int make_questions(Scratch *x, const State *s, Questions *q) {
    uint32_t count = s->node_count;
    if (!reserve((void **)&x->asked, &x->asked_room, 7 * count, sizeof(uint32_t))) return 0;
    q->first = x->asked, q->next = q->first + count, q->words = q->next + count, q->after = q->words + count;
    q->found = (float *)(q->after + count), q->costs = q->found + count, q->wanted = (uint8_t *)(q->costs + count);
    memset(q->first, 0xFF, count * sizeof(uint32_t));
    memset(q->wanted, 0, count);
    return 1;
}

static void ask(Questions *q, uint32_t node, uint32_t member) {
    q->next[member] = q->first[node];
    q->first[node] = member, q->wanted[node] = 1;
}

/* Answer: `costs` in nats of the members of all lists, of their words or of the end of a sentence, after the nodes that
   have the lists; 0 without memory. Those nodes have rows then. */
static int answer(const Model *m, Scratch *x, State *s, Questions *q, int ends) {
    const float *rows[GROUP];
    uint32_t nodes[GROUP];
    if (!prepare(&x->work, m->lstm) || !give_rows(m, x, s, q->wanted)) return 0;
    for (uint32_t k = 0; k < s->node_count;) {
        uint32_t count = 0, number = 0;
        for (; k < s->node_count && count < GROUP; k++) {
            if (q->first[k] == NONE) continue;
            rows[count] = row_of(m, x, s, k);
            for (uint32_t j = q->first[k]; j != NONE; j = q->next[j]) {
                q->words[number] = ends ? 0 : m->lstm_word[s->nodes[j].word];
                q->after[number++] = count;
            }
            nodes[count++] = k;
        }
        if (!count) break;
        foretell(m->lstm, &x->work, rows, count);
        log_probs(m->lstm, &x->work, count, q->words, q->after, 0, number, q->found);
        number = 0;
        for (uint32_t n = 0; n < count; n++)
            for (uint32_t j = q->first[nodes[n]]; j != NONE; j = q->next[j], number++)
                q->costs[j] = q->words[number] == UNKNOWN ? INFINITY : -q->found[number];
    }
    return 1;
}
