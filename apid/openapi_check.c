/* Run by the build: fails it when ROUTES and apid/openapi.json do not name the same routes with the same access, and
 * says what to change. With an argument: the file to write when they agree. */
#include "apid/openapi.h"

#include <stdio.h>

static const char *const METHODS[] = {
	[METHOD_GET] = "get",     [METHOD_POST] = "post",     [METHOD_PUT] = "put",
	[METHOD_PATCH] = "patch", [METHOD_DELETE] = "delete",
};
static const char *const ACCESS[] = {
	[ROUTE_OPEN] = "\"security\": []",
	[ROUTE_KEY] = "no \"security\"",
	[ROUTE_CONSOLE] = "\"security\": [{\"session\": []}]",
};

static const struct route *find(const struct route *rows, const struct route *wanted) {
	for (; rows->pattern; rows++) {
		if (rows->method == wanted->method && strcmp(rows->pattern, wanted->pattern) == 0)
			return rows;
	}
	return NULL;
}

static void say_missing(const struct route *route) {
	fprintf(stderr, "error: apid/openapi.json lacks \"%s\" of %s, which apid/routes.c has\n", METHODS[route->method],
	        route->pattern);
	fprintf(stderr,
	        "  add to the path \"%s\" in \"paths\" (names in its {}, and \"servers\": [{\"url\": \"/\"}] in a bare "
	        "path):\n",
	        route->pattern);
	fprintf(stderr, "\t\"%s\": {\"operationId\": \"…\", \"tags\": [\"…\"], \"summary\": \"…\", ",
	        METHODS[route->method]);
	if (route->access != ROUTE_KEY)
		fprintf(stderr, "%s, ", ACCESS[route->access]);
	if (route->scope)
		fprintf(stderr, "\"x-scope\": \"%s\", ", route->scope);
	if (route->owners_only)
		fprintf(stderr, "\"x-owners-only\": true, ");
	fprintf(stderr, "\"x-problems\": [404],\n"
	                "\t\t\"responses\": {\"200\": {\"description\": \"…\", \"content\": {\"application/json\": "
	                "{\"schema\": {\"$ref\": "
	                "\"#/components/schemas/…\"}}}}}}\n");
}

static unsigned compare(const struct route *route, const struct route *row) {
	unsigned wrong = 0;
	char where[256];
	snprintf(where, sizeof(where), "error: apid/openapi.json: \"%s\" of %s", METHODS[route->method], route->pattern);
	if (route->access != row->access)
		wrong += fprintf(stderr, "%s must have %s, as in apid/routes.c\n", where, ACCESS[route->access]) > 0;
	if (route->bare != row->bare)
		wrong += fprintf(stderr, "%s: the path must have %s\n", where,
		                 route->bare ? "\"servers\": [{\"url\": \"/\"}]" : "no \"servers\"") > 0;
	if (route->owners_only != row->owners_only)
		wrong +=
			fprintf(stderr, "%s must have \"x-owners-only\": %s\n", where, route->owners_only ? "true" : "false") > 0;
	if (strcmp(route->scope ? route->scope : "", row->scope ? row->scope : "") != 0)
		wrong += fprintf(stderr, "%s must have %s\"x-scope\"%s%s\n", where, route->scope ? "" : "no ",
		                 route->scope ? ": " : "", route->scope ? route->scope : "") > 0;
	return wrong;
}

int main(int argc, char **argv) {
	unsigned wrong = 0;
	for (const struct route *route = ROUTES; route->pattern; route++) {
		const struct route *row = find(OPENAPI_ROWS, route);
		if (row) {
			wrong += compare(route, row);
		} else {
			say_missing(route);
			wrong++;
		}
	}
	for (const struct route *row = OPENAPI_ROWS; row->pattern; row++) {
		if (find(ROUTES, row))
			continue;
		fprintf(stderr, "error: apid/openapi.json has \"%s\" of %s, which apid/routes.c has not\n",
		        METHODS[row->method], row->pattern);
		wrong++;
	}
	if (wrong > 0)
		return 1;
	FILE *stamp = argc > 1 ? fopen(argv[1], "w") : NULL;
	return argc > 1 && (!stamp || fclose(stamp) != 0);
}
