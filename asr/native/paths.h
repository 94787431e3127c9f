/* What is read from a state: its best path, all paths that end, alternatives. */
#pragma once
#include "rescoring.h"

/* What ending a sentence would add to the cost of a path, infinite where none ends. `lstm` has the cost of it after each
   node, where an LSTM is asked. */
static float end_cost(const Model *m, const State *state, const Token *token, const float *lstm, float *graph) {
    float ngram = m->finals[token->state], cost = m->language_weight * ngram;
    if (isinf(ngram)) return ngram;
    if (m->ngrams) {
        uint32_t next;
        cost += (m->first_weight - m->language_weight) * (ngram + token->pending);
        ngram = word_cost_after(m->ngrams, token->context, 0, &next);
        cost += m->second_weight * ngram;
    }
    if (lstm) cost += correction(m, lstm[node_of(state, token->record)], ngram);
    *graph = token->graph + cost;
    return token->cost + cost;
}

/* The path that costs least, of those that end a sentence if `ended` and any does: its index, NONE if there is none. */
EXPORT uint32_t rill_best(const Model *m, const State *state, int ended, const float *lstm, double *cost,
                          float *graph) {
    uint32_t found = NONE;
    float least = INFINITY, of_graph = 0;
    for (uint32_t k = 0; ended && k < state->count; k++) {
        float total = end_cost(m, state, &state->tokens[k], lstm, &of_graph);
        if (total < least) least = total, found = k, *graph = of_graph;
    }
    if (found == NONE)
        for (uint32_t k = 0; k < state->count; k++) {
            const Token *token = &state->tokens[k];
            if (token->cost < least) least = token->cost, found = k, *graph = token->graph;
        }
    *cost = state->base + least;
    return found;
}

/* Cost of the cheapest path that ends a sentence over that of the cheapest path of all. */
EXPORT float rill_ending_cost(const Model *m, const State *state) {
    const float *lstm = NULL; /* whether a sentence may end is left to the n-grams */
    float least = INFINITY, graph;
    for (uint32_t k = 0; k < state->count; k++) {
        float total = end_cost(m, state, &state->tokens[k], lstm, &graph);
        if (total < least) least = total;
    }
    return least;
}

/* The unit of each frame (frames,) of a path, and its words with the frames at which they were written, newest first;
   returns how many words there are, of which at most `room` are filled in. */
EXPORT uint32_t rill_path(const State *state, uint32_t token, uint16_t *units, uint32_t *words, uint32_t room) {
    uint32_t until = state->frames, count = 0, record = state->tokens[token].record;
    for (; record != NONE; record = state->records.all[record].parent) {
        const Record *one = &state->records.all[record];
        if (one->word & JUNCTION) continue;
        if (one->word) {
            if (count < room) words[count] = one->word;
            count++;
        }
        for (uint32_t t = one->frame; t < until; t++) units[t] = one->kind;
        if (one->unit != 0xFFFF && one->frame < until) units[one->frame] = one->unit;
        if (one->frame < until) until = one->frame;
    }
    for (uint32_t t = 0; t < until; t++) units[t] = 0;
    return count;
}

/* For every path that ends a sentence (or every path, if none does): record, cost over the best path, cost of language;
   returns how many, of which at most `room` are filled in. */
EXPORT uint32_t rill_ends(const Model *m, const State *state, const float *lstm, uint32_t *records, float *costs,
                          float *graphs, uint32_t room) {
    uint32_t count = 0;
    for (int ended = 1; ended >= 0 && !count; ended--) {
        for (uint32_t k = 0; k < state->count; k++) {
            float graph = state->tokens[k].graph;
            float cost = ended ? end_cost(m, state, &state->tokens[k], lstm, &graph) : state->tokens[k].cost;
            if (isinf(cost)) continue;
            if (count < room) records[count] = state->tokens[k].record, costs[count] = cost, graphs[count] = graph;
            count++;
        }
    }
    return count;
}
