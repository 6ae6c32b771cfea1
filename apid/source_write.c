/* Chunks of a source onto a transaction, each compressed when the one before has arrived. */
#include "apid/source_write.h"

#include "apid/api.h"
#include "apid/api_source.h"
#include "apid_stmts.h"

void source_writer_fini(struct source_writer *w) {
	buf_fini(&w->source);
	mail_zstd_free(w->zstd);
}

static void chunk_written(struct request *r, void *arg, const struct pg_result *result) {
	source_writer_run(r, arg);
}

void source_writer_run(struct request *r, struct source_writer *w) {
	struct slice data;
	size_t offset = w->chunk * MAIL_CHUNK, n = min_of(w->source.len - offset, (size_t)MAIL_CHUNK);
	bool last = offset + n == w->source.len;
	if (!w->zstd)
		w->zstd = mail_zstd_new();
	enum mail_codec codec = mail_chunk_compress(w->zstd, w->source.data + offset, n, &data);
	struct pg_params p;
	pg_params_init(&p);
	source_chunk_params(&p, &w->mail, w->chunk++);
	pg_param_int4(&p, w->expiry_hour);
	pg_param_int2(&p, (int16_t)codec);
	pg_param_int4(&p, (int32_t)n);
	pg_param_bytea(&p, data.p, data.n);
	pg_param_uuid(&p, &w->user);
	api_tx_step(w->tx, &STMT_SOURCE_INSERT, &p, last ? NULL : chunk_written, w);
	pg_params_fini(&p);
	if (last)
		api_tx_commit(w->tx, w->committed, w->arg);
	else
		api_tx_flush(w->tx);
}

void source_answer_too_large(struct request *r) {
	respond_problem(r, PROBLEM_PAYLOAD_TOO_LARGE, "the mail would be over %lld octets",
	                (long long)request_api(r)->config->source_max);
}
