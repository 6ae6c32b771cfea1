/* mime: what the fields of messages and parts say: addresses, subjects, parameters, file names. */
#include "mime_check.h"

static const struct row rows[] = {
	/* addresses, RFC 5322 3.4 and 4.4, RFC 7103 7.1 */
	{"addresses", "To: \"Doe, J\" <j@x>, (c) k@x (Kay), <@r1,@r2:l@x>, \"a b\"@x, m @ x . y, group: n@x, o@x;, <>\n\n",
     .to = "j@x | k@x | l@x | \"a b\"@x | m@x.y | n@x | o@x", .text = ""},
	{"undisclosed", "To: undisclosed-recipients:;\nCc: Group: ;, z@x\n\n", .cc = "z@x", .text = ""},
	{"sloppy addresses",
     "To: Doe, Jane <j@x>, <<k@x>>, <l@x, m@x, n@x <n@x>, Bob <o@x> p@x, q@x\nReply-To: r@x; s@x\n\n",
     .to = "j@x | k@x | l@x | m@x | n@x | o@x | p@x | q@x", .reply_to = "r@x | s@x", .text = ""},
	{"name with a comma, unquoted", "From: Doe, Jane <j@x>\n\n", .from = "j@x", .name = "Doe, Jane", .text = ""},
	{"name in a comment", "From: j@x (Jane (Q.) Doe)\n\n", .from = "j@x", .name = "Jane (Q.) Doe", .text = ""},
	{"name quoted", "From: \"Jane \\\"Q\\\" Doe\" <j@x>\n\n", .from = "j@x", .name = "Jane \"Q\" Doe", .text = ""},
	{"name encoded", "From: =?utf-8?B?0JjQstCw0L0=?= =?utf-8?B?INCf?= <i@x>\n\n", .from = "i@x", .name = "Иван П",
     .text = ""},
	{"name encoded with specials", "From: =?utf-8?Q?Doe,_Jane:_a@b?= <j@x>\n\n", .from = "j@x",
     .name = "Doe, Jane: a@b", .text = ""},
	{"name encoded in quotes", "From: \"=?utf-8?Q?=C3=84?=\" <j@x>\n\n", .from = "j@x", .name = "Ä", .text = ""},
	{"no address in From", "From: nobody\n\n", .text = ""},
	{"unclosed", "To: \"a <b@x>, c@x\nCc: (a b@x, c@x\nReply-To: <d@x\n\n", .to = "b@x | c@x", .cc = "b@x | c@x",
     .reply_to = "d@x", .text = ""},
	{"IDN stays as written", "To: x@xn--e1afmkfd.xn--p1ai, y@пример.рф\n\n",
     .to = "x@xn--e1afmkfd.xn--p1ai | y@пример.рф", .text = "", .warnings = "8bit_header"},
	{"address literal", "To: x@[IPv6:2001:db8::1], <y@[1.2.3.4]>\n\n", .to = "x@[IPv6:2001:db8::1] | y@[1.2.3.4]",
     .text = ""},

	/* subjects */
	{"words of GMime's bug 133", "Subject: =?UTF-8?B?SGVsbG8=?= =?UTF-8?B?IHdvcmxk?=\n\n", .subject = "Hello world",
     .text = ""},
	{"injection", "Subject: =?utf-8?q?a=0d=0aBcc:_x?=\n\n", .subject = "a  Bcc: x", .text = ""},
	{"raw header in the body's charset",
     "Subject: \xcf\xf0\xe8\nContent-Type: text/plain; charset=windows-1251\n\n\xcf\n", .subject = "При", .text = "П\n",
     .warnings = "8bit_header"},
	{"NUL in a header", "Subject: a\x01\x02z\n\n", .subject = "a  z", .text = ""},

	{"raw Cyrillic that nobody declared", "From: \xc8\xe2\xe0\xed <i@x>\nSubject: \xcf\xf0\xe8\xe2\xe5\xf2\n\nx\n",
     .from = "i@x", .name = "Иван", .subject = "Привет", .text = "x\n", .warnings = "8bit_header"},
	{"raw Western that nobody declared",
     PLAIN "Subject: Gr\xfc\xdf\x65\nContent-Type: text/plain; charset=us-ascii\n\nx\n", .from = "a@b.c",
     .subject = "Grüße", .text = "x\n", .warnings = "8bit_header"},
	{"raw UTF-8 whatever the body says", PLAIN "Subject: При\nContent-Type: text/plain; charset=koi8-r\n\n\xf0\n",
     .from = "a@b.c", .subject = "При", .text = "П\n", .warnings = "8bit_header"},
	{"two in From: the first", "From: Ann <a@b.c>, Bob <b@b.c>\nSender: s@x\n\n", .from = "a@b.c", .name = "Ann",
     .text = ""},
	{"group in From", "From: Us: \"A, B\" <a@b.c>, b@b.c;\n\n", .from = "a@b.c", .name = "A, B", .text = ""},
	{"obsolete syntax, RFC 5322 A.6",
     "From: Joe Q. Public <john . q . public@example . com>\nTo: Mary Smith <@node.test:mary@example.net>, , "
     "jdoe@test  . example\n\n",
     .from = "john.q.public@example.com", .name = "Joe Q. Public", .to = "mary@example.net | jdoe@test.example",
     .text = ""},
	{"comments everywhere, RFC 5322 A.5",
     "From: Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>\nTo:A Group(Some people)\n     "
     ":Chris Jones <c@(Chris's host.)public.example>,\n         joe@example.org,\n  John <jdoe@one.test> (my dear "
     "friend); (the end of the group)\nCc:(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;\n\n",
     .from = "pete@silly.test", .name = "Pete", .to = "c@public.example | joe@example.org | jdoe@one.test", .text = ""},

	/* names, RFC 2183, 2231 and what mailers do */
	{"name in RFC 2231 pieces", PLAIN "Content-Type: a/b;\n name*0*=koi8-r''%F0;\n name*1*=%D2;\n name*2=\"x.b\"\n\n",
     .from = "a@b.c", .parts = "Прx.b a/b 0 -"},
	{"pieces out of order", PLAIN "Content-Type: a/b; name*1=b; name*0=a\n\n", .from = "a@b.c", .parts = "ab a/b 0 -"},
	{"pieces with a charset, out of order",
     PLAIN "Content-Type: a/b; Name*1*=%D2; x=y; name*10=d; NAME*0*=koi8-r'ru'%F0; name*2=\"c\"\n\n", .from = "a@b.c",
     .parts = "Прcd a/b 0 -"},
	{"both forms", PLAIN "Content-Disposition: attachment; filename=\"e.txt\"; filename*=utf-8''%D0%AF.txt\n\n",
     .from = "a@b.c", .parts = "Я.txt text/plain 0 -"},
	{"charset that GMime does not know", PLAIN "Content-Disposition: attachment; filename*=windows-31j''%87%40.txt\n\n",
     .from = "a@b.c", .parts = "①.txt text/plain 0 -"},
	{"encoded words", PLAIN "Content-Type: a/b; name=\"=?utf-8?B?0J8=?=\n =?utf-8?B?0YAu?= =?utf-8?Q?b?=\"\n\n",
     .from = "a@b.c", .parts = "Пр.b a/b 0 -"},
	{"raw name", PLAIN "Content-Type: a/b; name=\"\xe9.b\"\n\n", .from = "a@b.c", .parts = "é.b a/b 0 -",
     .warnings = "8bit_header"},
	{"unquoted with blanks", PLAIN "Content-Disposition: attachment; filename=my file.txt\n\n", .from = "a@b.c",
     .parts = "my file.txt text/plain 0 -"},
	{"disposition's name wins", PLAIN "Content-Type: a/b; name=x\nContent-Disposition: attachment; filename=y\n\n",
     .from = "a@b.c", .parts = "y a/b 0 -"},
	{"two names", PLAIN "Content-Disposition: attachment; filename=y; filename=z\n\n", .from = "a@b.c",
     .parts = "y text/plain 0 -", .warnings = "conflicting_parameter"},
	{"pieces with odd numbers: only what is a piece counts",
     PLAIN "Content-Type: a/b; name*2=c; name*-1=x; name*99999999999999999999=z; name*0=a\n\n", .from = "a@b.c",
     .parts = "ac a/b 0 -"},
	{"first piece missing", PLAIN "Content-Type: a/b; name*1=b; name*2=c\n\n", .from = "a@b.c", .parts = "bc a/b 0 -"},
	{"the same piece twice", PLAIN "Content-Type: a/b; name*0=a; name*0=x; name*1=b\n\n", .from = "a@b.c",
     .parts = "ab a/b 0 -", .warnings = "conflicting_parameter"},
	{"character split between pieces", PLAIN "Content-Type: a/b; name*0*=utf-8''%D0; name*1*=%AF.b\n\n",
     .from = "a@b.c", .parts = "Я.b a/b 0 -"},
	{"language, RFC 2231 4", PLAIN "Content-Type: a/b; name*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A\n\n",
     .from = "a@b.c", .parts = "This is ___fun___ a/b 0 -"},
	{"percent that is none", PLAIN "Content-Type: a/b; name*=utf-8''100%\n\n", .from = "a@b.c",
     .parts = "100% a/b 0 -"},
	{"charset but no quotes", PLAIN "Content-Type: a/b; name*=%D0%AF.b\n\n", .from = "a@b.c", .parts = "Я.b a/b 0 -"},
	{"encoded word with a language", PLAIN "Content-Type: a/b; name=\"=?utf-8*ru?Q?=D0=AF=2Eb?=\"\n\n", .from = "a@b.c",
     .parts = "Я.b a/b 0 -"},
	{"encoded word without quotes", PLAIN "Content-Type: a/b; name==?utf-8?Q?=D0=AF=2Eb?=\n\n", .from = "a@b.c",
     .parts = "Я.b a/b 0 -"},
	{"character split between encoded words", PLAIN "Content-Type: a/b; name=\"=?utf-8?Q?=D0?= =?utf-8?Q?=AF.b?=\"\n\n",
     .from = "a@b.c", .parts = "Я.b a/b 0 -"},
	{"quoted pairs", PLAIN "Content-Type: a/b; name=\"a\\\"b\\\\c.txt\"\n\n", .from = "a@b.c",
     .parts = "c.txt a/b 0 -"},
	{"raw Cyrillic name", PLAIN "Content-Type: a/b; name=\"\xcf\xf0\xe8.b\"\n\n", .from = "a@b.c",
     .parts = "При.b a/b 0 -", .warnings = "8bit_header"},
	{"comment behind the type, RFC 2045 5.1", PLAIN "Content-Type: text/plain; charset=koi8-r (Russian)\n\n\xf0\n",
     .from = "a@b.c", .text = "П\n"},
	{"device", PLAIN "Content-Type: a/b; name=\"aux.txt\"\n\n", .from = "a@b.c", .parts = "_aux.txt a/b 0 -"},
	{"hostile name",
     PLAIN "Content-Disposition: attachment; filename*=utf-8''..%2f..%2fx%e2%80%aegnp.exe%0d%0aX:%20y\n\n",
     .from = "a@b.c", .parts = "xgnp.exe X_ y text/plain 0 -"},
	{"empty name", PLAIN "Content-Disposition: attachment; filename=\"/\"\n\n", .from = "a@b.c",
     .parts = "attachment-1.txt text/plain 0 u"},
};

static void test_rows(void **state) {
	check_rows(rows, array_len(rows));
}

static void test_truncations(void **state) {
	check_truncations(rows, array_len(rows));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_truncations),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
