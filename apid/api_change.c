#include "apid/api_change.h"

#include "apid/api.h"
#include "apid/auth.h"
#include "apid/auth_change.h"
#include "auth_stmts.h"

struct change {
	struct request *request;
	struct auth_change *waiting;
	struct pg_result result; /* COMMIT's */
	api_tx_done *done;
	void *arg;
};

static void change_end(void *arg) {
	struct change *c = arg;
	c->waiting = auth_change_cancel(c->waiting);
}

static void on_confirmed(void *arg) {
	struct change *c = arg;
	c->waiting = NULL;
	c->done(c->request, c->arg, &c->result);
}

static void on_committed(struct request *r, void *arg, const struct pg_result *result) {
	struct change *c = arg;
	if (result->status != PG_OK && result->status != PG_IN_DOUBT) {
		c->done(r, c->arg, result);
		return;
	}
	c->result = (struct pg_result){.status = result->status, .message = ""};
	auth_change_wait(c->waiting, result->status == PG_IN_DOUBT, on_confirmed, c);
}

void api_change_commit(struct request *r, struct api_tx *tx, const struct id *of, api_tx_done *done, void *arg) {
	char nonce[KEYS_NONCE_SIZE], what[ID_TEXT_SIZE] = "*";
	struct change *c = request_alloc(r, sizeof *c);
	struct pg_params p;
	*c = (struct change){.request = r, .done = done, .arg = arg};
	c->waiting = auth_change_start(auth_changes(request_api(r)->auth), nonce);
	request_at_end(r, change_end, c);
	if (of)
		id_format(of, what);
	pg_params_init(&p);
	pg_param_cstring(&p, nonce);
	pg_param_cstring(&p, what);
	api_tx_step(tx, &STMT_AUTH_PUBLISH, &p, NULL, NULL);
	pg_params_fini(&p);
	api_tx_commit(tx, on_committed, c);
}
