/* GET /health: the process answers. GET /ready: it can also do its work (database reachable, schema the one that
 * this build wants). */
#include "apid/api.h"
#include "apid/handlers.h"
#include "apid/request.h"
#include "common/json_out.h"
#include "common/pg.h"

static void answer(struct request *req, const char *member) {
	struct buf body;
	struct json_out json;
	buf_init(&body, 256);
	json_out_init(&json, &body);
	json_out_object(&json);
	json_out_member_bool(&json, member, true);
	json_out_object_end(&json);
	respond_json(req, 200, &body);
}

void api_health(struct request *req) {
	answer(req, "ok");
}

/* The reason may name hosts and users: the log has it, the client does not need it. */
void api_ready(struct request *req) {
	const struct api *api = request_api(req);
	if (api->draining)
		respond_problem(req, PROBLEM_UNAVAILABLE, "shutting down");
	else if (!pg_up(api->pg))
		respond_problem(req, PROBLEM_UNAVAILABLE, "the database is not reachable, or its schema is of another version");
	else
		answer(req, "ready");
}
