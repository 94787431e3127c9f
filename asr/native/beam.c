/* Beam search through a decoding graph, frame by frame (token passing: Young, Russell & Thornton 1989), with two
   language models in one pass.

   The graph L∘G reads phones. It is expanded to the units of the network while it is searched: a path is in a state of
   the graph and in a kind, the unit that its last phone goes on with. Where a path writes a word, the cost that the
   graph's small language model gave it is replaced by that of a large one (on-the-fly rescoring: Hori et al. 2007); until
   then the small one guides the search. Paths that agree in state, kind and context of the large model are merged. */
#define EXPORT __attribute__((visibility("default")))
#include "linking.h"
#include "paths.h"

static inline uint32_t slot_of(const Scratch *x, uint32_t state, uint32_t kind, uint32_t context) {
    uint64_t key = ((uint64_t)state << 32 | context) * 0x9E3779B97F4A7C15u + kind * 0xC2B2AE3D27D4EB4Fu;
    key ^= key >> 29;
    return (uint32_t)((key * 0xBF58476D1CE4E5B9u) >> 33) & (x->size - 1);
}

static uint32_t place_of(Scratch *x, uint32_t state, uint32_t kind, uint32_t context) {
    uint32_t slot = slot_of(x, state, kind, context);
    while (x->slots[slot].stamp == x->stamp) {
        const Token *token = &x->next.tokens[x->slots[slot].token];
        if (token->state == state && token->kind == kind && token->context == context) return slot;
        slot = (slot + 1) & (x->size - 1);
    }
    return slot;
}

static void clear_table(Scratch *x) {
    if (++x->stamp == 0) {
        memset(x->slots, 0, x->size * sizeof(Slot));
        x->stamp = 1;
    }
    x->next.count = 0;
}

static int grow_table(Scratch *x) {
    uint32_t size = x->size ? x->size * 2 : 16384;
    Slot *slots = calloc(size, sizeof(Slot));
    if (!slots) return 0;
    free(x->slots);
    x->slots = slots, x->size = size, x->stamp = 1;
    for (uint32_t k = 0; k < x->next.count; k++) {
        const Token *token = &x->next.tokens[k];
        x->slots[place_of(x, token->state, token->kind, token->context)] = (Slot){x->stamp, k};
    }
    return 1;
}

/* The record of a token whose path took an arc, made only once it is certain to be needed. */
static inline uint32_t record_of(Scratch *x, const Token *token, const Record *entry) {
    if (!entry) return token->record;
    uint32_t made = add_record(&x->next.records, *entry);
    if (made == NONE) x->failed = 1;
    return made;
}

/* Keep the path of a loser, whose record is `other`, as an alternative to that of the winner. */
static inline void join(Scratch *x, Token *winner, const Token *loser, uint32_t other) {
    uint32_t own = winner->record;
    Record one = {.parent = own, .word = other | JUNCTION};
    one.cost = loser->cost - winner->cost, one.graph = loser->graph - winner->graph;
    if (own == NONE || other == NONE) return;
    uint32_t made = add_record(&x->next.records, one);
    if (made == NONE) x->failed = 1;
    else winner->record = made, winner->latest = made + 1;
}

/* Offer a path to the next frame's set; `entry` is the record that it needs, or NULL. Returns its index if it is taken. */
static uint32_t offer(Scratch *x, const Model *m, Token token, const Record *entry) {
    uint32_t slot = place_of(x, token.state, token.kind, token.context);
    if (x->slots[slot].stamp != x->stamp) {
        if (!reserve((void **)&x->next.tokens, &x->next.room, x->next.count + 1, sizeof(Token))) {
            x->failed = 1;
            return NONE;
        }
        token.record = record_of(x, &token, entry);
        uint32_t index = x->next.count++;
        x->next.tokens[index] = token;
        x->slots[slot] = (Slot){x->stamp, index};
        if (x->next.count * 2 > x->size && !grow_table(x)) x->failed = 1;
        return index;
    }
    uint32_t index = x->slots[slot].token;
    Token *there = &x->next.tokens[index];
    int won = token.cost < there->cost, near = fabsf(token.cost - there->cost) < m->lattice_beam;
    /* Paths with the same words that were passed on along different arcs may have met different others before. */
    uint32_t lost = won ? there->junction : token.junction;
    int junction = near && (there->words != token.words ||
                            (there->fresh && token.fresh && lost && there->junction != token.junction));
    if (won) {
        token.record = record_of(x, &token, entry);
        if (junction) join(x, &token, there, there->record);
        *there = token;
        return index;
    }
    /* What has been told is another way to the path that is there, with alternatives that it has not. */
    if (!junction && !(m->lattice_beam > 0 && token.fresh == TOLD && there->words == token.words)) return NONE;
    join(x, there, &token, record_of(x, &token, entry));
    if (there->fresh == NEW) return NONE;
    there->fresh = TOLD; /* the paths that it has been passed on to must know, too */
    return index;
}

static float large_cost(Scratch *x, const Ngrams *ngrams, uint32_t context, uint32_t word, uint32_t *next) {
    uint32_t place = (context * 2654435761u ^ word * 2246822519u) >> 19;
    Cached *cached = &x->cache[place % CACHE];
    if (cached->context != context || cached->word != word) {
        cached->context = context, cached->word = word;
        cached->cost = word_cost_after(ngrams, context, word, &cached->next);
    }
    *next = cached->next;
    return cached->cost;
}

/* Let a path take an arc: adds the costs of language. */
static inline void take(Scratch *x, const Model *m, Token *token, const Arc *arc) {
    uint32_t word = arc->label >> 6;
    float cost = m->language_weight * arc->weight;
    token->state = arc->target & ~PASSES;
    if (!word) {
        token->pending += arc->weight;
    } else {
        cost += m->word_cost;
        token->words = (token->words ^ word) * 16777619u + 1;
        if (m->ngrams) {
            uint32_t known = m->ngram_word[word];
            if (known != NONE) {
                float large = m->second_weight * large_cost(x, m->ngrams, token->context, known, &token->context);
                if (m->bonus[word] > 0) large = fmaxf(0, large - m->language_weight * m->bonus[word]);
                cost += large - (m->language_weight - m->first_weight) * (token->pending + arc->weight);
            } else {
                token->context = NONE;
            }
        }
        token->pending = 0;
    }
    token->cost += cost;
    token->graph += cost;
}

/* Follow arcs that read nothing, from all paths that are new or have become cheaper. */
static void pass(Scratch *x, const Model *m, float limit) {
    uint32_t left = x->next.count;
    if (!reserve((void **)&x->stack, &x->stack_room, left + 1, sizeof(uint32_t))) {
        x->failed = 1;
        return;
    }
    uint32_t all = left;
    left = 0;
    for (uint32_t k = all; k-- > 0;)
        if (x->next.tokens[k].fresh == NEW || x->next.tokens[k].fresh == TOLD) x->stack[left++] = k;
    while (left && !x->failed) {
        Token token = x->next.tokens[x->stack[--left]];
        if ((token.fresh != NEW && token.fresh != TOLD) || token.cost > limit) continue;
        x->next.tokens[x->stack[left]].fresh = PASSED;
        for (uint32_t a = m->first[token.state]; a < m->first[token.state + 1]; a++) {
            const Arc *arc = &m->arcs[a];
            uint32_t word = arc->label >> 6;
            if (arc->label & 63) break;
            float bonus = word && m->ngrams ? m->bonus[word] : 0;
            if (token.cost + m->language_weight * (arc->weight - bonus) > limit) continue;
            Token after = token;
            after.junction = token.latest;
            after.fresh = arc->target & PASSES ? NEW : PASSED;
            take(x, m, &after, arc);
            if (after.cost > limit) continue;
            if (m->forgets) after.kind = 0;
            Record entry = entry_of(token.record, x->next.frames, arc, token.pending, 0xFFFF, after.kind);
            uint32_t index = offer(x, m, after, arc->label >> 6 || after.kind != token.kind ? &entry : NULL);
            if (index == NONE) continue;
            if (!reserve((void **)&x->stack, &x->stack_room, left + 1, sizeof(uint32_t))) {
                x->failed = 1;
                return;
            }
            x->stack[left++] = index;
        }
    }
}

#define BINS 256

/* Drop the paths outside the beam and the dearest of too many; costs become relative to the best one's. */
static void prune(Scratch *x, const Model *m) {
    State *set = &x->next;
    if (!set->count) return;
    uint32_t best = 0, kept = 0, bins[BINS] = {0};
    for (uint32_t k = 1; k < set->count; k++)
        if (set->tokens[k].cost < set->tokens[best].cost) best = k;
    float least = set->tokens[best].cost, limit = m->beam, scale = BINS / m->beam;
    if (set->count > m->most_active) {
        for (uint32_t k = 0; k < set->count; k++) {
            float over = (set->tokens[k].cost - least) * scale;
            if (over < BINS) bins[(uint32_t)over]++;
        }
        uint32_t inside = bins[0], bin = 1;
        while (bin < BINS && inside + bins[bin] <= m->most_active) inside += bins[bin++];
        limit = bin / scale;
    }
    for (uint32_t k = 0; k < set->count; k++) {
        Token token = set->tokens[k];
        token.cost -= least;
        if (token.cost > limit) continue;
        token.fresh = STAYED;
        token.junction = token.latest;
        set->tokens[kept++] = token;
    }
    set->count = kept;
    set->base += least;
}

static int compact(Scratch *x, const Model *m, State *set) {
    uint32_t count = set->records.count;
    if (!reserve((void **)&x->place, &x->place_room, count + 1, sizeof(uint32_t))) return 0;
    if (!reserve((void **)&x->over, &x->over_room, count + 1, sizeof(float))) return 0;
    for (uint32_t k = 0; k < count; k++) x->over[k] = INFINITY;
    for (uint32_t k = 0; k < set->count; k++) {
        const Token *token = &set->tokens[k];
        if (token->record != NONE && token->cost < x->over[token->record]) x->over[token->record] = token->cost;
    }
    set->scored = keep_records(&set->records, x->over, x->place, m->lattice_beam, set->scored);
    for (uint32_t k = 0; k < set->count; k++) {
        Token *token = &set->tokens[k];
        if (token->record != NONE) token->record = x->place[token->record];
        if (token->latest) token->latest = x->place[token->latest - 1] + 1;
        token->junction = token->latest;
    }
    return 1;
}

/* One frame: `row` holds the score of each unit, the higher the better. */
static void step(Scratch *x, const Model *m, const float *row) {
    static const Arc silence = {0, 0, 0};
    State before = x->now; /* its tokens; records and counters move on in `next` */
    State *next = &x->next;
    clear_table(x);
    float limit = INFINITY;
    for (uint32_t k = 0; k < before.count && !x->failed; k++) {
        if (k + 8 < before.count) __builtin_prefetch(&m->first[before.tokens[k + 8].state]);
        if (k + 4 < before.count) {
            uint32_t begin = m->first[before.tokens[k + 4].state];
            for (uint32_t line = 0; line < 4; line++) __builtin_prefetch((const char *)&m->arcs[begin] + 64 * line);
        }
        const Token token = before.tokens[k];
        Token on = token; /* where a path stays, so do those that it has already been passed on to */
        on.cost -= row[token.kind];
        on.fresh = m->forgets ? NEW : STAYED;
        if (on.cost <= limit) {
            if (on.cost + m->beam < limit) limit = on.cost + m->beam;
            offer(x, m, on, NULL);
        }
        if (token.kind && m->pausing[token.state]) {
            Token pause = token;
            pause.fresh = NEW;
            pause.cost += m->pause_cost - row[0];
            pause.kind = 0;
            if (pause.cost <= limit) {
                if (pause.cost + m->beam < limit) limit = pause.cost + m->beam;
                Record entry = entry_of(token.record, next->frames, &silence, 0, 0, 0);
                offer(x, m, pause, &entry);
            }
        }
        uint32_t line = m->phone_of[token.kind] * m->phones, done = 1;
        for (uint32_t a = m->first[token.state]; a < m->first[token.state + 1]; a++) {
            const Arc *arc = &m->arcs[a];
            uint32_t phone = arc->label & 63, word = arc->label >> 6, group = group_of(arc);
            if (!phone || group == done) continue;
            /* What the path is thought to cost: the graph's cost of a word stands for that of the large model. */
            float read = row[m->enter[line + phone]], cost = token.cost - read + m->language_weight * arc->weight;
            if (cost - (word ? m->language_weight * m->most_bonus : 0) > limit) {
                done = group; /* the others cost more */
                continue;
            }
            if (word && m->ngrams && cost - m->language_weight * m->bonus[word] > limit) continue;
            Token after = token;
            after.fresh = arc->target & PASSES ? NEW : PASSED;
            take(x, m, &after, arc);
            after.cost -= read;
            if (after.cost > limit) continue;
            if (after.cost + m->beam < limit) limit = after.cost + m->beam;
            after.kind = m->stay[line + phone];
            Record entry = entry_of(token.record, next->frames, arc, token.pending, m->enter[line + phone], after.kind);
            offer(x, m, after, &entry);
        }
    }
    next->frames++;
    pass(x, m, limit);
    prune(x, m);
}

EXPORT Scratch *rill_scratch_new(void) {
    Scratch *x = calloc(1, sizeof(Scratch));
    if (!x) return NULL;
    x->cache = malloc(CACHE * sizeof(Cached));
    if (!x->cache || !grow_table(x)) {
        free(x->cache), free(x);
        return NULL;
    }
    return x;
}

EXPORT void rill_scratch_free(Scratch *x) {
    if (!x) return;
    free(x->now.tokens), free(x->next.tokens), free(x->next.records.all);
    free(x->slots), free(x->place), free(x->over), free(x->stack), free(x->buckets);
    free(x->asked), free(x->fresh), free(x->work.memory), free(x->cache), free(x);
}

EXPORT void rill_state_free(State *state) {
    if (!state) return;
    release_rows(state->rows);
    free(state->tokens), free(state->records.all), free(state->nodes), free(state);
}

/* A copy with as much memory as it needs, and the nodes of `before`; without one, of the LSTM's state `context`. */
static State *copied(const State *set, const Model *m, const State *before, const float *context) {
    State *state = calloc(1, sizeof(State));
    if (!state) return NULL;
    *state = *set;
    state->room = set->count, state->records.room = set->records.count, state->nodes = NULL, state->rows = NULL;
    state->tokens = malloc((set->count + 1) * sizeof(Token));
    state->records.all = malloc((set->records.count + 1) * sizeof(Record));
    if (!state->tokens || !state->records.all || (m->lstm && !copy_nodes(state, m, before, context))) {
        rill_state_free(state);
        return NULL;
    }
    memcpy(state->tokens, set->tokens, set->count * sizeof(Token));
    if (set->records.count) memcpy(state->records.all, set->records.all, set->records.count * sizeof(Record));
    return state;
}

static void swap_sets(Scratch *x) {
    Token *tokens = x->now.tokens;
    uint32_t room = x->now.room;
    x->now.tokens = x->next.tokens, x->now.room = x->next.room, x->now.count = x->next.count;
    x->next.tokens = tokens, x->next.room = room;
}

/* The state after T more rows (T, K); `before` is NULL at the start of an utterance, and is left as it is. `context` (D,)
   is the LSTM's state there. NULL is returned without memory. */
EXPORT State *rill_advance(const Model *m, Scratch *x, const State *before, const float *context, const float *rows,
                           uint32_t frames, uint32_t units) {
    State *next = &x->next;
    x->failed = 0;
    next->records.count = 0;
    if (x->cached_for != m->identity) {
        for (uint32_t k = 0; k < CACHE; k++) x->cache[k].word = NONE;
        x->cached_for = m->identity;
    }
    if (before) {
        if (!reserve((void **)&next->tokens, &next->room, before->count, sizeof(Token)) ||
            !reserve((void **)&next->records.all, &next->records.room, before->records.count, sizeof(Record)))
            return NULL;
        memcpy(next->tokens, before->tokens, before->count * sizeof(Token));
        if (before->records.count)
            memcpy(next->records.all, before->records.all, before->records.count * sizeof(Record));
        next->count = before->count, next->records.count = before->records.count;
        next->frames = before->frames, next->base = before->base, next->scored = before->scored;
    } else {
        clear_table(x);
        next->frames = 0, next->base = 0, next->scored = 0;
        Token first = {m->start, NONE, NONE, 2166136261u, 0, 0, 0, 0, 0, 0, NEW};
        if (m->ngrams) first.context = context_of_word(m->ngrams, m->ngrams->words + 1);
        offer(x, m, first, NULL);
        pass(x, m, m->beam);
        prune(x, m);
    }
    swap_sets(x);
    for (uint32_t t = 0; t < frames; t++) {
        step(x, m, rows + (size_t)t * units);
        if (next->records.count > 200000 && t % 16 == 15 && !compact(x, m, next)) x->failed = 1;
        swap_sets(x);
        if (x->failed) return NULL;
    }
    swap_sets(x);
    if (x->failed || !compact(x, m, next)) return NULL;
    return copied(next, m, before, context);
}

EXPORT uint32_t rill_record_count(const State *state) { return state->records.count; }

EXPORT uint32_t rill_token_count(const State *state) { return state->count; }

EXPORT const Record *rill_records(const State *state) { return state->records.all; }

EXPORT uint32_t rill_row_count(const State *state) { return state->rows ? state->rows->count : 0; }

EXPORT uint32_t rill_node_count(const State *state) { return state->node_count; }

EXPORT uint32_t rill_record_size(void) { return sizeof(Record); }

/* A digest of the sources, by whoever compiles them: see compiler.py. */
#ifndef SOURCES
#define SOURCES ""
#endif
EXPORT const char *rill_sources(void) { return SOURCES; }
