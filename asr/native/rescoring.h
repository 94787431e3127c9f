/* Words scored by an LSTM while the search goes on (on-the-fly rescoring; lattices that keep a state of the LSTM for each
   context of the n-grams: Liu et al. 2014, "Efficient lattice rescoring using recurrent neural network language models").

   Every so many frames the words that have been written since are scored, on paths that are still alive, each once after
   the same words before, and every path gets the difference from what the n-grams had made of it. Paths that have met go
   on with the LSTM's state of the cheaper one. */
#pragma once
#include "types.h"

/* The record of a path that takes an arc at a frame; `pending` is the graph's cost since the word before. */
static inline Record entry_of(uint32_t parent, uint32_t frame, const Arc *arc, float pending, uint16_t unit,
                              uint16_t kind) {
    Record one = {.parent = parent, .word = arc->label >> 6, .frame = frame, .unit = unit, .kind = kind};
    one.ngram = pending + arc->weight;
    return one;
}

/* What an LSTM's cost of a word adds to that of the n-grams: they are mixed as probabilities. */
static inline float correction(const Model *m, float lstm, float ngram) {
    if (isinf(lstm)) return 0;
    float other = lstm - logf(m->lstm_weight), own = ngram - logf(1 - m->lstm_weight), least = fminf(other, own);
    float mixed = least - logf(expf(least - other) + expf(least - own));
    return (m->ngrams ? m->second_weight : m->language_weight) * (mixed - ngram);
}

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

/* Let the costs of all paths have what the scores of their new words add. `over` holds that for each record. */
static void apply_scores(Scratch *x, State *s) {
    Record *all = s->records.all;
    float least = INFINITY;
    for (uint32_t k = s->scored; k < s->records.count; k++) {
        Record *one = &all[k];
        if (one->word & JUNCTION) {
            uint32_t other = one->word & ~JUNCTION;
            float own = one->parent < s->scored ? 0 : x->over[one->parent];
            float change = (other < s->scored ? 0 : x->over[other]) - own;
            one->cost += change, one->graph += change;
            if (one->cost < 0) { /* now the other path is the cheaper one */
                one->cost = -one->cost, one->graph = -one->graph;
                one->word = one->parent | JUNCTION, one->parent = other;
            }
        }
        one->node = x->place[k];
    }
    for (uint32_t k = 0; k < s->count; k++) {
        Token *token = &s->tokens[k];
        float change = token->record == NONE || token->record < s->scored ? 0 : x->over[token->record];
        token->cost += change, token->graph += change;
        if (token->cost < least) least = token->cost;
    }
    for (uint32_t k = 0; k < s->count; k++) s->tokens[k].cost -= least;
    if (s->count) s->base += least;
    s->scored = s->records.count;
    keep_nodes(x, s);
}

/* Ask the LSTM about the nodes that have no cost by it; 0 without memory. */
static int score_nodes(const Model *m, Scratch *x, State *s) {
    Questions q;
    if (!make_questions(x, s, &q)) return 0;
    for (uint32_t k = s->node_count; k-- > 1;)
        if (isnan(s->nodes[k].lstm)) ask(&q, s->nodes[k].parent, k);
    if (!answer(m, x, s, &q, 0)) return 0;
    for (uint32_t k = 1; k < s->node_count; k++)
        if (isnan(s->nodes[k].lstm)) s->nodes[k].lstm = q.costs[k];
    return 1;
}

/* Find what scores add to the new records' paths, in `over`; 1 if some words have none yet, -1 without memory. */
static int add_up(const Model *m, Scratch *x, State *s) {
    const Record *all = s->records.all;
    uint32_t begin = s->scored;
    int waiting = 0;
    for (uint32_t k = begin; k < s->records.count; k++) {
        const Record *one = &all[k];
        uint32_t parent = one->parent, node = 0;
        float before = 0;
        if (parent != NONE) {
            before = parent < begin ? 0 : x->over[parent];
            node = parent < begin ? all[parent].node : x->place[parent];
        }
        if (one->word & JUNCTION) {
            uint32_t other = one->word & ~JUNCTION;
            float change = one->cost + (other < begin ? 0 : x->over[other]);
            if (change < before) {
                before = change;
                node = other < begin ? all[other].node : x->place[other];
            } else if (isnan(change)) {
                before = NAN;
            }
        } else if (one->word && !isnan(before)) {
            node = child_of(x, m, s, node, one->word);
            if (node == NONE) return -1;
            float lstm = s->nodes[node].lstm;
            waiting |= isnan(lstm);
            before += isnan(lstm) ? NAN : correction(m, lstm, m->ngrams ? s->nodes[node].ngram : one->ngram);
        }
        x->over[k] = before, x->place[k] = node;
    }
    return waiting;
}

/* Score the words that a new state's paths have written since the last time. Only for a state that nobody else has yet;
   returns 0 without memory. */
EXPORT int rill_rescore(const Model *m, Scratch *x, State *s) {
    uint32_t count = s->records.count;
    if (!reserve((void **)&x->over, &x->over_room, count + 1, sizeof(float)) ||
        !reserve((void **)&x->place, &x->place_room, count + 1, sizeof(uint32_t)) ||
        !index_nodes(x, s, count - s->scored))
        return 0;
    x->fresh_count = 0;
    for (int waiting; (waiting = add_up(m, x, s));)
        if (waiting < 0 || !score_nodes(m, x, s)) return 0;
    apply_scores(x, s);
    return keep_rows(m, x, s);
}

/* Costs (node_count,) in nats of ending a sentence after the nodes of a state that has been scored, and that nobody else
   has; of those alone that a path which may end has come to. Returns 0 without memory. */
EXPORT int rill_lstm_ends(const Model *m, Scratch *x, State *s, float *costs) {
    Questions q;
    if (!make_questions(x, s, &q)) return 0;
    for (uint32_t k = 0; k < s->count; k++) {
        uint32_t node = node_of(s, s->tokens[k].record);
        if (!isinf(m->finals[s->tokens[k].state]) && q.first[node] == NONE) {
            q.next[node] = NONE;
            ask(&q, node, node);
        }
    }
    x->fresh_count = 0;
    if (!answer(m, x, s, &q, 1)) return 0;
    for (uint32_t k = 0; k < s->node_count; k++) costs[k] = q.first[k] == NONE ? INFINITY : q.costs[k];
    return keep_rows(m, x, s);
}

/* The LSTM's state (D,) after the words of a path and the end of a sentence; returns 0 without memory. */
EXPORT int rill_lstm_context(const Model *m, Scratch *x, State *s, uint32_t token, float *context) {
    Questions q;
    uint32_t node = node_of(s, s->tokens[token].record), ends = 0;
    if (!prepare(&x->work, m->lstm) || !make_questions(x, s, &q)) return 0;
    x->fresh_count = 0, q.wanted[node] = 1;
    if (!give_rows(m, x, s, q.wanted)) return 0;
    const float *row = row_of(m, x, s, node);
    read_words(m->lstm, &x->work, &ends, &row, &context, 1);
    return keep_rows(m, x, s);
}
