"""The console's sessions: signing in and out, cookies, CSRF, and that who is signed out is out everywhere at once."""

import concurrent.futures
import threading
import time

import pytest

from client import Api, Console, check_problem
from launched import System
from people import PASSWORD, address, login, make_person


@pytest.fixture(scope="module")
def many():
    """Four workers."""
    running = System(environment={"MINUTEMAIL_APID_WORKERS": "4", "MINUTEMAIL_PASSWORD_MEMORY": "19M"})
    try:
        yield running.start()
    finally:
        running.remove()


@pytest.fixture
def person(system):
    return lambda running=system, **options: make_person(running, **options)


@pytest.fixture
def signed_in(system):
    return lambda running=system, **options: Console(address(running)).sign_in(make_person(running, **options), PASSWORD)


# ---- signing in ----

def test_sign_in_answers_user_and_csrf_token(system, person):
    email = person()
    answer = login(system, email.upper().replace("EXAMPLE", "Example"), PASSWORD)
    assert answer.status == 200, answer
    user = answer.json["user"]
    assert user["email"] == email and user["role"] == "owner" and user["plan"] == "unlimited"
    name, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert name.startswith("mm_session=") and len(name.partition("=")[2]) == 43
    assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Lax"}
    console = Console(address(system)).take(answer)
    again = console.get("/v1/auth/session")
    assert again.status == 200 and again.json["user"] == user and again.json["csrfToken"] == answer.json["csrfToken"]


def test_wrong_password_and_unknown_address_are_one_answer(system, person):
    email = person()
    wrong, unknown = login(system, email, PASSWORD + "x"), login(system, "nobody-" + email, PASSWORD)
    for answer in (wrong, unknown):
        check_problem(answer, 401, "unauthorized")
        assert "Set-Cookie" not in answer.headers
    assert wrong.json["message"] == unknown.json["message"]


def test_a_user_without_password_cannot_sign_in(system, person):
    email = person()
    system.sql("update users set password_hash = null where email = %s", email)
    check_problem(login(system, email, PASSWORD), 401, "unauthorized")


@pytest.mark.parametrize("what", ["user", "account"])
def test_suspended_cannot_sign_in_and_is_signed_out(system, person, what):
    email = person()
    console = Console(address(system)).sign_in(email, PASSWORD)
    account = system.sql("select account_id from users where email = %s", email)[0][0]
    system.ctl(what, "edit", email if what == "user" else account, "--state", "suspended")
    for _ in range(20):
        check_problem(console.get("/v1/auth/session"), 401, "unauthorized")
    check_problem(login(system, email, PASSWORD), 401, "unauthorized")


@pytest.mark.parametrize("body, member", [({"password": PASSWORD}, "email"), ({"email": "a@b.example"}, "password"),
                                          ({"email": "no address", "password": PASSWORD}, "email"),
                                          ({"email": 5, "password": PASSWORD}, "email"),
                                          ({"email": "a@b.example", "password": "x" * 1025}, "password")])
def test_bad_login_bodies(system, body, member):
    problem = check_problem(Api(address(system), None).post("/v1/auth/login", body), 400, "bad_request")
    assert f'"{member}"' in problem["message"]


def test_guessing_is_slowed(system, person):
    email = person()
    answers = [login(system, email, "wrong password %d" % i) for i in range(80)]
    refused = [a for a in answers if a.status == 429]
    assert refused and {a.status for a in answers} == {401, 429}
    problem = check_problem(refused[0], 429, "rate_limit_exceeded")
    assert problem["message"].endswith("try again in %s seconds" % refused[0].headers["Retry-After"])


def test_hash_of_another_cost_is_made_again_at_sign_in(many, person):
    email = person(many)
    question = "select password_hash from users where email = %s"
    assert many.sql(question, email)[0][0].startswith("$argon2id$v=19$m=65536,t=2,p=1$")
    for _ in range(2):
        assert login(many, email, PASSWORD).status == 200
        assert many.sql(question, email)[0][0].startswith("$argon2id$v=19$m=19456,t=2,p=1$")


# ---- what a session may ----

def test_session_uses_the_mail_routes(system, signed_in):
    console = signed_in()
    box = console.mailbox(domain="second.example")
    assert console.get(f"/v1/mailboxes/{box['id']}").status == 200
    assert console.delete(f"/v1/mailboxes/{box['id']}").status == 204


def test_session_sees_only_its_own(system, api, signed_in):
    box = api.mailbox()
    check_problem(signed_in().get(f"/v1/mailboxes/{box['id']}"), 403, "forbidden")


def test_key_is_not_enough_for_the_console(api):
    check_problem(api.get("/v1/auth/session"), 403, "forbidden")


def test_authorization_header_wins_over_the_cookie(system, signed_in):
    console = signed_in()
    check_problem(console.get("/v1/auth/session", headers={"Authorization": "Bearer nonsense"}), 401, "unauthorized")
    check_problem(console.get("/v1/auth/session", headers={"Authorization": "Bearer " + system.info["key"]}), 403, "forbidden")


@pytest.mark.parametrize("cookie", ["mm_session=", "mm_session=short", "mm_session=" + "A" * 43, "mm_session=" + "=" * 43,
                                    "other=" + "A" * 43, "{0}; {0}", "__Host-{0}", "{0}x"])
def test_cookies_that_are_no_session(signed_in, cookie):
    console = signed_in()
    check_problem(console.get("/v1/auth/session", headers={"Cookie": cookie.format(console.cookie)}), 401, "unauthorized")


def test_other_cookies_beside_it(signed_in):
    console = signed_in()
    assert console.get("/v1/auth/session", headers={"Cookie": f"a=b; {console.cookie};c=d"}).status == 200


# ---- CSRF ----

@pytest.mark.parametrize("headers", [{"X-CSRF-Token": None}, {"X-CSRF-Token": "x"}, {"X-CSRF-Token": "A" * 43},
                                     {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1"},
                                     {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}])
def test_unsafe_methods_need_token_and_origin(signed_in, headers):
    console = signed_in()
    for method, path in (("POST", "/v1/mailboxes"), ("DELETE", "/v1/mailboxes"), ("POST", "/v1/auth/logout")):
        check_problem(console.request(method, path, {}, headers=headers), 403, "forbidden")
    assert console.get("/v1/auth/session", headers=headers).status == 200


def test_token_of_another_session_is_not_taken(signed_in):
    one, other = signed_in(), signed_in()
    check_problem(one.post("/v1/mailboxes", {}, headers={"X-CSRF-Token": other.csrf}), 403, "forbidden")


def test_own_origin_is_taken(system, signed_in):
    answer = signed_in().post("/v1/mailboxes", {}, headers={"Origin": system.info["http"], "Sec-Fetch-Site": "same-origin"})
    assert answer.status == 201, answer


def test_sign_in_from_another_site_is_refused(system, person):
    check_problem(login(system, person(), PASSWORD, Origin="https://evil.example"), 403, "forbidden")


def test_form_cannot_sign_in(system):
    answer = Api(address(system), None).post("/v1/auth/login", "email=a&password=b",
                                            headers={"Content-Type": "application/x-www-form-urlencoded"})
    check_problem(answer, 415, "unsupported_media_type")


# ---- the end of a session ----

def test_idle_and_absolute_end(system, signed_in):
    for column, back in (("used_at", "31 minutes"), ("ends_at", "12 hours 1 minute")):
        console = signed_in()  # not asked before: a use that is noted is written a second later
        system.sql(f"update sessions set {column} = {column} - interval '{back}' where user_id = %s", console.user["id"])
        check_problem(console.get("/v1/auth/session"), 401, "unauthorized")


def test_use_is_noted(system, signed_in):
    console = signed_in()
    system.sql("update sessions set used_at = used_at - interval '20 minutes' where user_id = %s", console.user["id"])
    old = system.sql("select used_at from sessions where user_id = %s", console.user["id"])
    for _ in range(50):
        assert console.get("/v1/auth/session").status == 200
        if system.sql("select used_at from sessions where user_id = %s", console.user["id"]) != old:
            return
        time.sleep(0.2)
    raise AssertionError("used_at was not written")


def test_the_token_is_nowhere_in_database_and_logs(system, signed_in):
    console = signed_in()
    token = console.cookie.partition("=")[2]
    assert system.sql("select count(*) from sessions where hash = %s or encode(hash, 'escape') like %s", token.encode(),
                      f"%{token}%") == [(0,)]
    for name in ("apid", "postgres"):
        assert token not in system.log(name) and PASSWORD not in system.log(name)


def all_refuse(console, connections=()):
    answers = [console.get("/v1/auth/session", connection=connection).status for connection in connections]
    answers += [console.get("/v1/auth/session").status for _ in range(30)]
    assert set(answers) == {401}, answers


def test_signed_out_is_out_in_every_worker(many, signed_in):
    console = signed_in(many)
    connections = [console.connect() for _ in range(16)]
    for connection in connections:
        assert console.get("/v1/auth/session", connection=connection).status == 200
    answer = console.post("/v1/auth/logout")
    assert answer.status == 204 and "Max-Age=0" in answer.headers["Set-Cookie"]
    all_refuse(console, connections)
    for connection in connections:
        connection.close()


def test_signed_out_everywhere_ends_all_sessions_and_no_key(many, person):
    email = person(many)
    consoles = [Console(address(many)).sign_in(email, PASSWORD) for _ in range(3)]
    key = Api(address(many), many.ctl("key", "create", "--name", "k", "--user", email)["key"])
    stranger = Console(address(many)).sign_in(person(many), PASSWORD)
    assert consoles[0].post("/v1/auth/logout-everywhere").status == 204
    for console in consoles:
        all_refuse(console)
    assert key.get("/v1/mailboxes").status == 200 and stranger.get("/v1/auth/session").status == 200


def test_password_change_ends_other_sessions(many, person):
    email = person(many)
    thief, console = (Console(address(many)).sign_in(email, PASSWORD) for _ in range(2))
    old = console.cookie
    check_problem(console.post("/v1/auth/password", {"current": PASSWORD + "x", "new": "another long password"}), 403, "forbidden")
    for bad in ("short", "aaaaaaaaaaaaaaaa", "password1234", email, "x" * 1025):
        check_problem(console.post("/v1/auth/password", {"current": PASSWORD, "new": bad}), 400, "bad_request")
    answer = console.post("/v1/auth/password", {"current": PASSWORD, "new": "another long password"})
    assert answer.status == 200, answer
    console.take(answer)
    assert console.cookie != old and console.get("/v1/auth/session").status == 200
    all_refuse(thief)
    check_problem(console.get("/v1/auth/session", headers={"Cookie": old}), 401, "unauthorized")
    check_problem(login(many, email, PASSWORD), 401, "unauthorized")
    assert login(many, email, "another long password").status == 200


def test_operator_sets_a_password(many, person):
    email = person(many)
    console = Console(address(many)).sign_in(email, PASSWORD)
    many.ctl("user", "password", email, text="a password from the operator\n")
    all_refuse(console)
    assert login(many, email, "a password from the operator").status == 200
    for bad in ("short\n", "\n", ""):
        assert many.ctl("user", "password", email, text=bad, check=False).returncode == 1


# ---- behind a proxy, over TLS ----

@pytest.fixture(scope="module")
def proxied(system):
    """One worker behind a reverse proxy that it trusts; sign-up is open."""
    with system.another_apid("127.0.0.1:0;forwarded=127.0.0.0/8", workers=1, password_memory="19M", signup="open",
                             signup_plan="hobbyist") as apid:
        yield Api(apid.address(), None)


def through(proxy, path, body, client="192.0.2.1", scheme="https", **headers):
    return proxy.post(path, body, headers=dict(headers, **{"X-Forwarded-For": client, "X-Forwarded-Proto": scheme}))


def test_cookie_over_tls(system, proxied):
    email = make_person(system)
    answer = through(proxied, "/v1/auth/login", {"email": email, "password": PASSWORD})
    assert answer.status == 200, answer
    cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert cookie.startswith("__Host-mm_session=") and set(attributes) == {"Path=/", "HttpOnly", "SameSite=Lax", "Secure"}
    for scheme, sent, status in (("https", cookie, 200), ("http", cookie, 401), ("https", cookie.removeprefix("__Host-"), 401)):
        got = proxied.get("/v1/auth/session", headers={"Cookie": sent, "X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": scheme})
        assert got.status == status, (scheme, sent, got)
    headers = {"Cookie": cookie, "X-CSRF-Token": answer.json["csrfToken"]}
    for origin, status in (("http://" + proxied.address, 403), ("https://" + proxied.address, 201)):
        assert through(proxied, "/v1/mailboxes", {}, Origin=origin, **headers).status == status


def test_one_clients_guesses_are_slowed_not_anothers(proxied):
    answers = [through(proxied, "/v1/auth/login", {"email": f"nobody-{i}@example.com", "password": PASSWORD}, client="192.0.2.7").status
               for i in range(64)]
    assert answers[:60] == [401] * 60 and 429 in answers[60:], answers
    assert through(proxied, "/v1/auth/reset", {"token": "A" * 43, "password": PASSWORD}, client="192.0.2.7").status == 429
    assert through(proxied, "/v1/auth/login", {"email": "nobody@example.com", "password": PASSWORD}, client="192.0.2.8").status == 401


def test_who_signed_in_before_is_not_kept_out_by_others_who_guess(system, proxied):
    email, other = make_person(system), make_person(system)

    def sign_in(client, password=PASSWORD, cookie=None):
        return through(proxied, "/v1/auth/login", {"email": email, "password": password}, client=client, Cookie=cookie or "a=b")

    def known(person):
        answer = through(proxied, "/v1/auth/login", {"email": person, "password": PASSWORD}, client="192.0.2.20")
        cookie, = [c for c in answer.headers.get_all("Set-Cookie") if c.startswith("__Host-mm_known=")]
        assert "Secure" in cookie and "HttpOnly" in cookie
        return cookie.split(";")[0]

    mine, theirs = known(email), known(other)
    guesses = [sign_in(f"198.51.{i}.2", "a wrong long password").status for i in range(14)]
    assert set(guesses) == {401, 429}, guesses
    assert sign_in("192.0.2.20").status == 429 and sign_in("192.0.2.20", cookie=theirs).status == 429
    assert sign_in("192.0.2.21", cookie=mine).status == 200
    guesses = [sign_in(f"203.0.{i}.2", "a wrong long password", mine).status for i in range(14)]  # has a limit, too
    assert set(guesses) == {401, 429}, guesses


def at_once(jobs):
    """Their results, eight under way at a time."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda job: job(), jobs))


def test_guesses_are_counted_over_all_workers(system):
    """One limit for four workers: of a client's passwords, of one person's, and of a client's keys. A limit fills up again meanwhile."""
    with system.another_apid("127.0.0.1:0;forwarded=127.0.0.0/8", workers=4, password_memory="19M", apid_client_bad_keys_rate=40) as apid:
        proxy = Api(apid.address(), None)

        def passed(count, per_second, ask):
            begun = time.monotonic()
            answers = at_once([lambda i=i: ask(i).status for i in range(count)])
            assert set(answers) == {401, 429}, answers
            return answers.count(401), (time.monotonic() - begun) * per_second + 1

        def guess(email, client):
            return through(proxy, "/v1/auth/login", {"email": email, "password": PASSWORD}, client=client)

        right, more = passed(100, 1 / 5, lambda i: guess(f"nobody-{i}@example.com", "192.0.2.9"))
        assert 60 <= right <= 60 + more
        one = f"one-{time.time_ns()}@example.com"
        right, more = passed(40, 1 / 30, lambda i: guess(one, f"198.51.{i}.1"))
        assert 10 <= right <= 10 + more
        assert guess(one, "203.0.113.1").status == 429
        key = "mm_sk_live_" + "x" * 53
        right, more = passed(100, 40 / 60, lambda i: proxy.get("/v1/mailboxes", key=key, headers={"X-Forwarded-For": "192.0.2.77"}))
        assert 40 <= right <= 40 + more


def test_open_sign_up(proxied):
    assert proxied.get("/v1/auth/signup").json == {"signup": "open"}
    email = f"open-{time.time_ns()}@example.com"
    for bad in ("short", "password1234", email):
        check_problem(through(proxied, "/v1/auth/signup", {"email": email, "password": bad}), 400, "bad_request")
    answer = through(proxied, "/v1/auth/signup", {"email": email, "password": PASSWORD})
    assert answer.status == 201 and answer.json["user"]["plan"] == "hobbyist" and answer.json["user"]["role"] == "owner", answer
    check_problem(through(proxied, "/v1/auth/signup", {"email": email, "password": PASSWORD}), 409, "conflict")


def test_sign_ups_of_one_address_at_once(proxied, system):
    email, answers = f"twice-{time.time_ns()}@example.com", []
    threads = [threading.Thread(target=lambda: answers.append(through(proxied, "/v1/auth/signup", {"email": email, "password": PASSWORD})))
               for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(a.status for a in answers) == [201] + [409] * 4
    assert system.sql("select count(*) from accounts where name = %s", email) == [(1,)]
