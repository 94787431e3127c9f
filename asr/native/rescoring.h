/* Words scored by an LSTM while the search goes on (on-the-fly rescoring; lattices that keep a state of the LSTM for each
   context of the n-grams: Liu et al. 2014, "Efficient lattice rescoring using recurrent neural network language models").

   Every so many frames the words that have been written since are scored, on paths that are still alive, each once after
   the same words before, and every path gets the difference from what the n-grams had made of it. Paths that have met go
   on with the LSTM's state of the cheaper one. */
#pragma once
#include "nodes.h"

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
