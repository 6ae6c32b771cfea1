-- Two more of the functions of 0019_row_security.sql: when keys and sessions were last used, written as a worker ends. Others may be
-- writing the same ones at this moment, and nobody waits behind these statements, so they wait their turn.

create function auth_keys_used_last(keys uuid[], times timestamptz[]) returns void
	language sql security definer set search_path = pg_catalog, public, pg_temp
as $$
	update api_keys k set last_used_at = x.at
	from (
		select h.id, u.at from unnest(keys, times) as u (id, at) join api_keys h on h.id = u.id
		where h.last_used_at is null or h.last_used_at < u.at
		order by h.id
		for no key update of h
	) x
	where k.id = x.id
$$;
-- step
create function auth_sessions_used_last(of_sessions uuid[], times timestamptz[]) returns void
	language sql security definer set search_path = pg_catalog, public, pg_temp
as $$
	update sessions s set used_at = x.at
	from (
		select h.id, u.at from unnest(of_sessions, times) as u (id, at) join sessions h on h.id = u.id
		where h.used_at < u.at
		order by h.id
		for no key update of h
	) x
	where s.id = x.id
$$;
-- step
revoke all on function auth_keys_used_last(uuid[], timestamptz[]), auth_sessions_used_last(uuid[], timestamptz[]) from public;
-- step
grant execute on function auth_keys_used_last(uuid[], timestamptz[]), auth_sessions_used_last(uuid[], timestamptz[]) to minutemail_apid;
-- step
grant minutemail_gate to current_user;
-- step
grant create on schema public to minutemail_gate;
-- step
alter function auth_keys_used_last(uuid[], timestamptz[]) owner to minutemail_gate;
-- step
alter function auth_sessions_used_last(uuid[], timestamptz[]) owner to minutemail_gate;
-- step
revoke create on schema public from minutemail_gate;
-- step
revoke minutemail_gate from current_user;
