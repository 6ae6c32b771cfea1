/* GET /openapi.json and /docs: the API's description, for programs and for people, made at build time. */
#include "apid/handlers.h"
#include "apid/openapi.h"

static void serve(struct request *r, const struct openapi_file *file) {
	struct buf body;
	if (respond_not_modified(r, file->etag))
		return;
	const struct respond_header headers[] = {
		{"ETag", file->etag},
		{"Cache-Control", "no-cache"}, /* to be kept, and asked about */
		{file->policy ? "Content-Security-Policy" : NULL, file->policy},
		{NULL, NULL},
	};
	buf_init(&body, file->size);
	buf_append(&body, file->data, file->size);
	respond_bytes(r, 200, file->type, headers, &body);
}

void api_openapi(struct request *r) {
	serve(r, &OPENAPI_JSON);
}

void api_docs(struct request *r) {
	serve(r, &OPENAPI_HTML);
}
