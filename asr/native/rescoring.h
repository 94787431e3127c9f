/* Words scored by an LSTM while the search goes on (on-the-fly rescoring; lattices that keep a state of the LSTM for each
   context of the n-grams: Liu et al. 2014, "Efficient lattice rescoring using recurrent neural network language models").

   Every so many frames the caller asks which words have been written since, on paths that are still alive. It scores them,
   each once after the same words before, and every path gets the difference from what the n-grams had made of it. Paths
   that have met go on with the LSTM's state of the cheaper one. */
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

/* Give a new state the nodes of the one before, or the first one: no words yet. */
static int copy_nodes(State *state, const Model *m, const State *before) {
    Node root = {NONE, NONE, NONE, 0, 0, 0};
    if (m->ngrams) root.context = context_of_word(m->ngrams, m->ngrams->words + 1);
    const Node *nodes = before ? before->nodes : &root;
    state->node_count = state->node_room = before ? before->node_count : 1;
    state->nodes = malloc(state->node_count * sizeof(Node));
    if (state->nodes) memcpy(state->nodes, nodes, state->node_count * sizeof(Node));
    return state->nodes != NULL;
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

/* Score the words that a new state's paths have written since the last time.

   Returns 1 when some are still to be scored by the LSTM: those nodes whose `lstm` is NaN, which the caller sets before it
   calls again; 0 when all is done, -1 without memory. Only for a state that nobody else has yet. */
EXPORT int rill_rescore(const Model *m, Scratch *x, State *s) {
    const Record *all = s->records.all;
    uint32_t count = s->records.count, begin = s->scored;
    if (!reserve((void **)&x->over, &x->over_room, count + 1, sizeof(float)) ||
        !reserve((void **)&x->place, &x->place_room, count + 1, sizeof(uint32_t)) ||
        !index_nodes(x, s, count - begin))
        return -1;
    int waiting = 0;
    for (uint32_t k = begin; k < count; k++) {
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
    if (!waiting) apply_scores(x, s);
    return waiting;
}
