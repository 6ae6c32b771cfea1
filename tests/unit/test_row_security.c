/* Row-level security behind the statements of apid: on the pool and the role that apid has, statements whose owner conditions have been
 * broken, as a slip of ours would break them, still show nobody what is another's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "apid_stmts.h"
#include "pg_test.h"

#define A "0190aaaa-0000-7000-8000-000000000001"
#define B "0190bbbb-0000-7000-8000-000000000002"
#define A_OWNER "0190aaaa-0000-7000-8000-0000000000a1"
#define A_MEMBER "0190aaaa-0000-7000-8000-0000000000a2"
#define B_OWNER "0190bbbb-0000-7000-8000-0000000000b1"
#define BOX "0190cccc-0000-7000-8000-000000000001"
#define MAIL "0190cccc-0000-7000-8000-000000000002"

/* A statement of apid's with one condition turned into one that always holds. */
struct broken {
	const struct pg_stmt *stmt;
	const char *condition, *instead;
	struct pg_stmt made;
	char sql[4096];
};

#define NO_OWNER "b.user_id = $4", "coalesce($4::uuid, b.user_id) is not null"
static struct broken mail_get = {&STMT_MAIL_GET, NO_OWNER}, mail_list = {&STMT_MAIL_LIST, NO_OWNER},
                     mail_source = {&STMT_MAIL_SOURCE, NO_OWNER},
                     mailbox_get = {&STMT_MAILBOX_GET, "m.user_id = $4", "coalesce($4::uuid, m.user_id) is not null"},
                     mailbox_delete = {&STMT_ACCOUNT_MAILBOX_DELETE, "account_id = $1", "coalesce($1::uuid, account_id) is not null"};
static struct broken *const all_broken[] = {&mail_get, &mail_list, &mail_source, &mailbox_get, &mailbox_delete};
static const struct pg_stmt *apid_stmts[array_len(all_broken) + 3];

static void make_broken(struct broken *b) {
	const char *at = strstr(b->stmt->sql, b->condition);
	assert_non_null(at);
	snprintf(b->sql, sizeof(b->sql), "%.*s%s%s", (int)(at - b->stmt->sql), b->stmt->sql, b->instead, at + strlen(b->condition));
	b->made = (struct pg_stmt){.name = b->stmt->name, .sql = b->sql};
}

static struct id id_of(const char *text) {
	struct id id;
	assert_true(id_parse(text, strlen(text), &id));
	return id;
}

static struct pg_principal principal(const char *account, const char *user) {
	return (struct pg_principal){id_of(account), id_of(user)};
}

static int start(void **state) {
	start_db(state);
	pg_fixture_exec(db, "insert into accounts select unnest('{" A "," B "}'::uuid[]), 'x', 'unlimited', 'active', now()");
	pg_fixture_exec(db, "insert into users (id, account_id, email, role, state, created_at) values ('" A_OWNER "', '" A
	                    "', 'a', 'owner', 'active', now()), ('" A_MEMBER "', '" A "', 'm', 'member', 'active', now()), ('" B_OWNER
	                    "', '" B "', 'b', 'owner', 'active', now())");
	pg_fixture_exec(db, "insert into mailboxes values (7, '" BOX "', '" A "', '" A_MEMBER "', '" A "', 'box@a.example', false, null,"
	                    " now(), null)");
	pg_fixture_exec(db, "insert into account_mailboxes values ('" A "', '" BOX "', '" A_MEMBER "', 7, '" A "', false, null)");
	pg_fixture_exec(db, "insert into messages (bucket, id, mailbox_id, received_at, expiry_hour, mail_from, rcpt_to, helo, trace, to_list,"
	                    " cc_list, reply_to_list, size, digest, parts, warnings, injected, user_id) values (7, '" MAIL "', '" BOX
	                    "', now(), 2147483647, '', '', '', '', '[]', '[]', '[]', 1, '', '', '[]', false, '" A_MEMBER "')");
	pg_fixture_exec(db, "insert into message_source values (7, '" MAIL "', 0, 2147483647, 0, 1, 'x', '" A_MEMBER "')");
	for (unsigned i = 0; i < array_len(all_broken); i++) {
		make_broken(all_broken[i]);
		apid_stmts[i] = &all_broken[i]->made;
	}
	apid_stmts[array_len(all_broken)] = &STMT_SOURCE_CHUNK;
	apid_stmts[array_len(all_broken) + 1] = &STMT_MAILBOX_UPDATE;
	return 0;
}

static struct pg_options apid_options(void) {
	struct pg_options o = base_options();
	o.conninfo = pg_fixture_conninfo(db, "minutemail_apid");
	o.stmts = apid_stmts;
	o.row_security = "messages";
	return o;
}

static void open_apid(void) {
	struct pg_options o = apid_options();
	open_pool(&o);
	await_up();
}

static void param_object(struct pg_params *p) {
	const struct id box = id_of(BOX), user = id_of(B_OWNER);
	const struct id domain = id_of(A);
	pg_params_init(p);
	pg_param_int2(p, 7);
	pg_param_uuid(p, &box);
	pg_param_time(p, clock_wall_us());
	pg_param_uuid(p, &user);
	pg_param_array(p, PG_UUID, 1);
	pg_elem_uuid(p, &domain);
}

static unsigned rows_for(const struct pg_principal *who, const struct pg_stmt *stmt, struct pg_params *p) {
	struct answer a = {0};
	pg_query_as(pg, who, stmt, p, on_answer, &a);
	pg_params_fini(p);
	await(&a);
	assert_int_equal(a.status, PG_OK);
	return a.rows ? a.rows : (unsigned)a.affected;
}

static unsigned box_rows(const struct pg_principal *who) {
	struct pg_params p;
	param_object(&p);
	return rows_for(who, &mailbox_get.made, &p);
}

static unsigned mail_rows(const struct pg_principal *who, const struct broken *b) {
	const struct id mail = id_of(MAIL);
	struct pg_params p;
	param_object(&p);
	pg_param_uuid(&p, &mail);
	if (b == &mail_get)
		pg_param_bool(&p, true);
	return rows_for(who, &b->made, &p);
}

struct listed {
	bool done, mail;
	enum pg_status status;
};

static void on_listed(void *arg, const struct pg_result *r) {
	*(struct listed *)arg = (struct listed){true, pg_rows_count(r->rows) > 0 && !pg_null(r->rows, 0, 1), r->status};
}

/* A row without a mail, where the mailbox is seen and its mails are not. */
static bool lists_mail(const struct pg_principal *who) {
	const struct id last = id_of("ffffffff-ffff-ffff-ffff-ffffffffffff");
	struct listed l = {0};
	struct pg_params p;
	param_object(&p);
	pg_param_uuid(&p, &last);
	pg_param_bool(&p, true);
	pg_param_int8(&p, 10);
	pg_param_int8(&p, 1000000);
	pg_query_as(pg, who, &mail_list.made, &p, on_listed, &l);
	pg_params_fini(&p);
	turn_until(&l.done, 10000000);
	assert_int_equal(l.status, PG_OK);
	return l.mail;
}

static unsigned chunk_rows(const struct pg_principal *who) {
	const struct id mail = id_of(MAIL);
	struct pg_params p;
	pg_params_init(&p);
	pg_param_int2(&p, 7);
	pg_param_uuid(&p, &mail);
	pg_param_int4(&p, 0);
	return rows_for(who, &STMT_SOURCE_CHUNK, &p);
}

static unsigned updated(const struct pg_principal *who) {
	const struct id box = id_of(BOX);
	struct pg_params p;
	pg_params_init(&p);
	pg_param_int2(&p, 7);
	pg_param_uuid(&p, &box);
	pg_param_bool(&p, false);
	pg_param_null(&p);
	pg_param_time(&p, INT64_MAX);
	return rows_for(who, &STMT_MAILBOX_UPDATE, &p);
}

static unsigned deleted(const struct pg_principal *who) {
	const struct id account = id_of(A), box = id_of(BOX), user = id_of(A_MEMBER), domain = id_of(A);
	struct pg_params p;
	pg_params_init(&p);
	pg_param_uuid(&p, &account);
	pg_param_uuid(&p, &box);
	pg_param_time(&p, clock_wall_us());
	pg_param_uuid(&p, &user);
	pg_param_array(&p, PG_UUID, 1);
	pg_elem_uuid(&p, &domain);
	return rows_for(who, &mailbox_delete.made, &p);
}

static void test_broken_statements(void **state) {
	const struct pg_principal member = principal(A, A_MEMBER), owner = principal(A, A_OWNER), stranger = principal(B, B_OWNER);
	const struct {
		const char *name;
		const struct pg_principal *who;
		bool sees_box, sees_mail;
	} rows[] = {
	    {"whose it is", &member, true, true},
	    {"the account's owner", &owner, true, false},
	    {"another account", &stranger, false, false},
	    {"nobody", NULL, false, false},
	};
	(void)state;
	open_apid();
	for (unsigned i = 0; i < array_len(rows); i++) {
		const struct pg_principal *who = rows[i].who;
		print_message("%s\n", rows[i].name);
		assert_int_equal(box_rows(who), rows[i].sees_box);
		assert_int_equal(mail_rows(who, &mail_get), rows[i].sees_mail);
		assert_int_equal(mail_rows(who, &mail_source), rows[i].sees_mail);
		assert_int_equal(lists_mail(who), rows[i].sees_mail);
		assert_int_equal(chunk_rows(who), rows[i].sees_mail);
		assert_int_equal(updated(who), rows[i].sees_box);
	}
	assert_int_equal(deleted(&stranger), 0);
	assert_int_equal(deleted(NULL), 0);
	assert_int_equal(deleted(&owner), 1);
}

/* As the tables' owner, or the superuser, there would be no wall, and nothing would look wrong. */
static void test_role_without_a_wall(void **state) {
	(void)state;
	struct pg_options o = apid_options();
	o.conninfo = pg_fixture_conninfo(db, NULL);
	open_pool(&o);
	int64_t end = clock_mono_us_now() + 10000000;
	while (!strstr(pg_down_reason(pg), "row-level security") && clock_mono_us_now() < end)
		turn();
	assert_false(pg_up(pg));
	assert_non_null(strstr(pg_down_reason(pg), "passes over row-level security"));
}

int main(void) {
	const struct CMUnitTest tests[] = {row(test_broken_statements), row(test_role_without_a_wall)};
	return cmocka_run_group_tests(tests, start, stop_db);
}
