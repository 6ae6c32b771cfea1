-- What smtpd asks: who a recipient is, and rows of finished messages. The role behind it can insert messages and look mailboxes
-- up; it cannot read a message back, so every statement here keeps to key columns (sql/migrations/0002).

-- Both halves of each RCPT in one round trip: is the domain ours, and the mailbox of it that is live at $4, with what holds its mail back.
-- One row for each element, with its place in the arrays. OFFSET 0, and sub-selects for the states, keep each look-up a probe of an index,
-- whatever the planner thinks of the arrays' length. A mailbox of another domain of that name is of one that was given up.
-- name: recipients_find reads
select q.place, d.id is not null, m.id, m.expires_at,
	coalesce((select a.state = 'suspended' from accounts a where a.id = m.account_id), false),
	coalesce((select u.state = 'suspended' from users u where u.id = m.user_id), false),
	m.user_id
from unnest($1::text[], $2::smallint[], $3::text[]) with ordinality q (domain, bucket, address, place)
left join lateral (
	select id from domains where name = q.domain and status = 'verified' offset 0
) d on true
left join lateral (
	select b.id, b.expires_at, b.account_id, b.user_id from mailboxes b
	where b.bucket = q.bucket and b.address = q.address and (b.expires_at is null or b.expires_at > $4::timestamptz)
		and b.domain_id = d.id
	offset 0
) m on true

-- Where mail for <Postmaster> ends up (RFC 5321 4.5.1): the platform domain that was made first.
-- name: platform_domain_first reads
select name from domains where account_id is null and status = 'verified' order by id limit 1

-- One row a recipient. The arrays are of equal length.
-- name: messages_insert
insert into messages (bucket, id, mailbox_id, received_at, expiry_hour, mail_from, rcpt_to, helo, tls, trace, from_address,
	from_name, to_list, cc_list, reply_to_list, subject, body_text, body_html, size, digest, parts, warnings, authentication, user_id, injected)
select *, false
from unnest($1::smallint[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::int[], $6::text[], $7::text[], $8::text[], $9::text[],
	$10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[],
	$19::bigint[], $20::bytea[], $21::bytea[], $22::text[], $23::text[], $24::uuid[])

-- The same rows again after a COMMIT whose outcome is unknown. It must write WAL even if the rows are there, so that its own
-- COMMIT waits for the standbys: DO NOTHING would acknowledge mail that only a lost primary has.
-- name: messages_insert_again
insert into messages (bucket, id, mailbox_id, received_at, expiry_hour, mail_from, rcpt_to, helo, tls, trace, from_address,
	from_name, to_list, cc_list, reply_to_list, subject, body_text, body_html, size, digest, parts, warnings, authentication, user_id, injected)
select *, false
from unnest($1::smallint[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::int[], $6::text[], $7::text[], $8::text[], $9::text[],
	$10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[],
	$19::bigint[], $20::bytea[], $21::bytea[], $22::text[], $23::text[], $24::uuid[])
on conflict (bucket, id) do update set id = excluded.id

-- The octets come first because the daemon knows the codec of a chunk only after it has tried to compress it.
-- name: message_source_insert
insert into message_source (data, bucket, id, chunk, expiry_hour, codec, size, user_id)
select * from unnest($1::bytea[], $2::smallint[], $3::uuid[], $4::int[], $5::int[], $6::smallint[], $7::int[], $8::uuid[])

-- name: message_source_insert_again
insert into message_source (data, bucket, id, chunk, expiry_hour, codec, size, user_id)
select * from unnest($1::bytea[], $2::smallint[], $3::uuid[], $4::int[], $5::int[], $6::smallint[], $7::int[], $8::uuid[])
on conflict (bucket, id, chunk, expiry_hour) do update set id = excluded.id

-- One chunk of a large source, its octets said once for all the recipients of the message.
-- name: message_source_chunk_insert
insert into message_source (data, bucket, id, chunk, expiry_hour, codec, size, user_id)
select $1::bytea, r.bucket, r.id, $2::int, r.expiry_hour, $3::smallint, $4::int, r.user_id
from unnest($5::smallint[], $6::uuid[], $7::int[], $8::uuid[]) as r (bucket, id, expiry_hour, user_id)

-- name: message_source_chunk_insert_again
insert into message_source (data, bucket, id, chunk, expiry_hour, codec, size, user_id)
select $1::bytea, r.bucket, r.id, $2::int, r.expiry_hour, $3::smallint, $4::int, r.user_id
from unnest($5::smallint[], $6::uuid[], $7::int[], $8::uuid[]) as r (bucket, id, expiry_hour, user_id)
on conflict (bucket, id, chunk, expiry_hour) do update set id = excluded.id

-- What authentication found out about messages only when they were there already; one that is gone meanwhile refuses the statement (23503).
-- name: message_authentication_insert
insert into message_authentication (bucket, id, results, forged, user_id)
select * from unnest($1::smallint[], $2::uuid[], $3::text[], $4::boolean[], $5::uuid[])
on conflict do nothing
