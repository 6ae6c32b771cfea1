"""Keys in numbers: made without asking anybody, and used all at once."""

import hashlib
import pathlib
import random
import uuid
import zlib

import bench
import references

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KEYS, CONNECTIONS = 1000, 256
PLENTY = 2_000_000_000  # calls, so that every one is counted and none refused

# A connection has a key, and asks for that key's own mailbox. `pause`: milliseconds between an answer and the next request, at random.
SCRIPT = """
local keys = {%s}
local pause = %d
function init(args) math.randomseed(%d + os.time()) end
function request()
  local one = keys[math.random(#keys)]
  return wrk.format("GET", one[2], {["Authorization"] = "Bearer " .. one[1]})
end
function delay() return pause > 0 and math.random(0, 2 * pause) or 0 end
"""


def key_text(generator):
    """The format of common/apikey.h."""
    text = "mm_sk_live_" + "".join(generator.choice(BASE62) for _ in range(47))
    value, digits = zlib.crc32(text.encode()), ""
    for _ in range(6):
        value, rest = divmod(value, 62)
        digits = BASE62[rest] + digits
    return text + digits


class Keys:
    def __init__(self, system):
        self.system = system
        self.secret = bytes.fromhex(pathlib.Path(system.info["data"], "key_secret").read_text().strip())
        system.sql("insert into plans (name, calls_per_day, requests_per_minute) values ('bench', %s, %s)", PLENTY, PLENTY)

    def make(self, count, limited):
        """Keys that cover the platform's domain, each of an account and a user of its own."""
        texts = [key_text(random.SystemRandom()) for _ in range(count)]
        ids = [[str(uuid.uuid4()) for _ in texts] for _ in range(3)]
        hashes = [hashlib.blake2b(text.encode(), digest_size=32, key=self.secret).digest() for text in texts]
        names = [f"bench-{one}" for one in ids[0]]
        self.system.sql("insert into accounts (id, name, plan, state, created_at) select id, name, %s, 'active', now() "
                        "from unnest(%s::uuid[], %s) as x (id, name)", "bench" if limited else "unlimited", ids[0], names)
        self.system.sql("insert into users (id, account_id, email, role, state, created_at) select id, account, name || '@example.org', 'owner', "
                        "'active', now() from unnest(%s::uuid[], %s::uuid[], %s) as x (id, account, name)", ids[1], ids[0], names)
        self.system.sql("insert into api_keys (id, account_id, user_id, name, hash, last8, environment, scopes, created_at) "
                        "select id, account, person, 'bench', hash, last8, 'live', '{}', now() "
                        "from unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s, %s) as x (id, account, person, hash, last8)",
                        ids[2], ids[0], ids[1], hashes, [text[-8:] for text in texts])
        self.system.sql("insert into api_key_domains (key_id, domain_id, account_id) select k, d.id, a "
                        "from unnest(%s::uuid[], %s::uuid[]) as x (k, a), domains d where d.account_id is null and d.name = %s",
                        ids[2], ids[0], self.system.domain)
        return texts


def latency(system, keys, directory, cpu, seconds):
    from client import Api
    pairs = []
    for key in keys.make(KEYS, limited=True):
        pairs.append((key, "/v1/mailboxes/" + Api(system.api.address, key).mailbox(expiresIn="60m")["id"]))
    system.sql("vacuum analyze")
    text = ", ".join(f'{{"{key}", "{path}"}}' for key, path in pairs)

    def run(pause):
        script = directory / "keys.lua"
        script.write_text(SCRIPT % (text, pause, pause))
        one, used, share = cpu.measure_all(lambda: references.wrk(system.info["http"], seconds, CONNECTIONS, script=script))
        return {**one, "rate": round(one["rate"]), "cpu_us": bench.per_unit(used, one["units"]), "share": share}
    run(0)  # every worker has looked every key up, and leased calls for its account
    full = run(0)
    # As many answers as connections come in one pause and one answer: with a pause of this many ms about half of the full rate.
    half = run(max(1, round(CONNECTIONS / (full["rate"] / 2) * 1000)))
    return {"full load": full, "half load": half}


def show(results):
    print(f"keys: {KEYS} keys of as many accounts, {CONNECTIONS} connections")
    for name, one in results.items():
        print(f"    {name}: {one['rate']}/s, p50 {one['p50_ms']:.1f} ms, p99 {one['p99_ms']:.1f} ms; CPU us a request: apid {one['cpu_us']['apid']}, "
              f"PostgreSQL {one['cpu_us']['postgres sessions']}; {one['share']['idle']:.0%} idle, {one['share']['other']:.0%} other")
