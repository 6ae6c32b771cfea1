-- What apid asks of PostgreSQL. Rules (they keep one text right on one node and on Citus):
--   every statement on mail data has bucket = $1, taken from the id, so it goes to one shard;
--   now is a parameter, never now(): expiry is a fact of each query, and a retry must mean the same instant;
--   owner and domains are conditions of the statement, so an object that is not the asker's is never read; behind them stands row-level
--   security (sql/README.md), which what is asked on behalf of nobody passes by functions made for that.
-- Live: expires_at is null or > now. Archived: recoverable and expires_at <= now (sql/migrations/0001_mail.sql).

-- Mailboxes. $1 bucket, $2 id, $3 now, $4 user, $5 domains of the key.

-- name: mailbox_get reads
select m.id, m.address, m.recoverable, m.tag, m.created_at, m.expires_at,
	(select count(*) from messages s where s.bucket = $1 and s.mailbox_id = m.id)
from mailboxes m
where m.bucket = $1 and m.id = $2 and (m.expires_at is null or m.expires_at > $3) and m.user_id = $4 and m.domain_id = any($5::uuid[])

-- $2 is the address here.
-- name: mailbox_by_address reads
select m.id, m.address, m.recoverable, m.tag, m.created_at, m.expires_at,
	(select count(*) from messages s where s.bucket = $1 and s.mailbox_id = m.id)
from mailboxes m
where m.bucket = $1 and m.address = $2 and (m.expires_at is null or m.expires_at > $3) and m.user_id = $4
	and m.domain_id = any($5::uuid[])

-- Asked only when a statement found nothing: is it there at all, and if so may the key see it?
-- name: mailbox_whose reads
select mailbox_whose($1, $2, $3, $4, $5)

-- name: archived_whose reads
select archived_whose($1, $2, $3, $4, $5)

-- The ids of an owner's mailboxes, oldest first. $1 account, $2 user, $3 domains, $4 now, $5 after this id, $6 how many.
-- name: mailbox_ids reads
select mailbox_id from account_mailboxes
where account_id = $1 and user_id = $2 and domain_id = any($3::uuid[]) and (expires_at is null or expires_at > $4) and mailbox_id > $5
order by mailbox_id limit $6

-- name: archived_ids reads
select mailbox_id from account_mailboxes
where account_id = $1 and user_id = $2 and domain_id = any($3::uuid[]) and recoverable and expires_at <= $4 and mailbox_id > $5
order by mailbox_id limit $6

-- Creating. What stands at the address and is dead, archived by the same user, or of a domain that is gone, makes room, with its mails;
-- whose it was.
-- $1 bucket, $2 address, $3 now, $4 user.
-- name: mailbox_make_room
select dead, dead_account from mailbox_make_room($1, $2, $3, $4)

-- Fails if the user is no more, and keeps him until the transaction ends. $1 account, $2 user.
-- name: mailbox_owner_stays
select mailbox_owner_stays($1, $2)

-- name: mailbox_insert
insert into mailboxes (bucket, id, account_id, user_id, domain_id, address, recoverable, tag, created_at, expires_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- name: account_mailbox_insert
insert into account_mailboxes (account_id, mailbox_id, user_id, bucket, domain_id, recoverable, expires_at)
values ($1, $2, $3, $4, $5, $6, $7)

-- Last of what makes a mailbox live, and of what archives one; they fail if that is one too many. $1 account, $2 now, $3 how many
-- there may be, $4 the mailbox.
-- name: mailbox_limit_active
select mailbox_limit_active($1, $2, $3)

-- name: mailbox_limit_archived
select mailbox_limit_archived($1, $2, $3, $4)

-- name: account_mailbox_forget
delete from account_mailboxes where account_id = $1 and mailbox_id = $2

-- Changing.
-- name: mailbox_lock
select address, recoverable, tag, created_at, expires_at,
	(select count(*) from messages s where s.bucket = $1 and s.mailbox_id = $2)
from mailboxes
where bucket = $1 and id = $2 and (expires_at is null or expires_at > $3) and user_id = $4 and domain_id = any($5::uuid[])
for update

-- name: mailbox_update
update mailboxes set recoverable = $3, tag = $4, expires_at = $5 where bucket = $1 and id = $2

-- name: account_mailbox_update
update account_mailboxes set recoverable = $3, expires_at = $4 where account_id = $1 and mailbox_id = $2

-- A mailbox that lives longer takes its mails along to a later partition. $3: the hour.
-- name: mailbox_move_mails
with mail as (
	select id, expiry_hour from messages where bucket = $1 and mailbox_id = $2 and expiry_hour < $3 for update
), moved as (
	update messages m set expiry_hour = $3 from mail where m.bucket = $1 and m.id = mail.id
)
update message_source s set expiry_hour = $3 from mail m where s.bucket = $1 and s.id = m.id and s.expiry_hour = m.expiry_hour

-- Deleting: a recoverable one becomes archived at this instant, another goes; its mails go either way.
-- name: mailbox_delete
with gone as (
	delete from mailboxes
	where bucket = $1 and id = $2 and (expires_at is null or expires_at > $3) and user_id = $4 and domain_id = any($5::uuid[])
		and not recoverable
	returning id
), kept as (
	update mailboxes set expires_at = $3
	where bucket = $1 and id = $2 and (expires_at is null or expires_at > $3) and user_id = $4 and domain_id = any($5::uuid[])
		and recoverable
	returning id
), mail as (
	delete from messages m using (select id from gone union all select id from kept) b
	where m.bucket = $1 and m.mailbox_id = b.id
	returning m.id, m.expiry_hour
), source as (
	delete from message_source s using mail m where s.bucket = $1 and s.id = m.id and s.expiry_hour = m.expiry_hour
)
select id from gone union all select id from kept

-- The same in the owner's list. $1 account, $2 id, $3 now, $4 user, $5 domains.
-- name: account_mailbox_delete
delete from account_mailboxes
where account_id = $1 and mailbox_id = $2 and (expires_at is null or expires_at > $3) and user_id = $4
	and domain_id = any($5::uuid[]) and not recoverable

-- name: account_mailbox_archive
update account_mailboxes set expires_at = $3
where account_id = $1 and mailbox_id = $2 and (expires_at is null or expires_at > $3) and user_id = $4
	and domain_id = any($5::uuid[]) and recoverable

-- Archived mailboxes. $1 bucket, $2 id, $3 now, $4 user, $5 domains.

-- name: archived_get reads
select id, address, tag, created_at, expires_at
from mailboxes
where bucket = $1 and id = $2 and recoverable and expires_at <= $3 and user_id = $4 and domain_id = any($5::uuid[])

-- name: archived_lock
select id from mailboxes
where bucket = $1 and id = $2 and recoverable and expires_at <= $3 and user_id = $4 and domain_id = any($5::uuid[])
for update

-- name: archived_take
with gone as (
	delete from mailboxes
	where bucket = $1 and id = $2 and recoverable and expires_at <= $3 and user_id = $4 and domain_id = any($5::uuid[])
	returning id, address, tag, domain_id
), mail as (
	delete from messages m using gone g where m.bucket = $1 and m.mailbox_id = g.id
	returning m.id, m.expiry_hour
), source as (
	delete from message_source s using mail m where s.bucket = $1 and s.id = m.id and s.expiry_hour = m.expiry_hour
)
select address, tag, domain_id from gone

-- Mails. $1 bucket, $2 mailbox, $3 now, $4 user, $5 domains.

-- $6 mail, $7 whether the bodies are wanted.
-- name: mail_get reads
select b.expires_at, m.id, m.received_at, m.mail_from, m.rcpt_to, m.helo, m.tls, m.from_address, m.from_name, m.to_list, m.cc_list,
	m.reply_to_list, m.subject, case when $7 then m.body_text end, case when $7 then m.body_html end, m.size, m.parts, m.warnings,
	coalesce(m.authentication, a.results), a.forged
from mailboxes b, messages m left join message_authentication a on a.bucket = $1 and a.id = m.id
where b.bucket = $1 and b.id = $2 and (b.expires_at is null or b.expires_at > $3) and b.user_id = $4
	and b.domain_id = any($5::uuid[]) and m.bucket = $1 and m.id = $6 and m.mailbox_id = b.id

-- Newest first, below id $6, at most $8 of them and no more than about $9 octets, but always one. A mailbox without mails is one
-- row whose id is null. The last column: whether an older one follows, for which one more than a page is asked for.
-- name: mail_list reads
select b.expires_at, m.id, m.received_at, m.mail_from, m.rcpt_to, m.helo, m.tls, m.from_address, m.from_name, m.to_list, m.cc_list,
	m.reply_to_list, m.subject, case when $7 then m.body_text end, case when $7 then m.body_html end, m.size, m.parts, m.warnings,
	coalesce(m.authentication, a.results), a.forged, m.more
from mailboxes b left join lateral (
	select l.*, lead(l.id) over w is not null as more, row_number() over w as place,
		sum(case when $7 then coalesce(octet_length(l.body_text), 0) + coalesce(octet_length(l.body_html), 0) else 0 end
			+ octet_length(l.parts) + octet_length(l.to_list) + octet_length(l.cc_list) + octet_length(l.reply_to_list)) over w as octets
	from (
		select * from messages s where s.bucket = $1 and s.mailbox_id = b.id and s.id < $6 order by s.id desc limit $8
	) l
	window w as (order by l.id desc rows unbounded preceding)
) m on m.octets <= $9 or m.place = 1
left join message_authentication a on a.bucket = $1 and a.id = m.id
where b.bucket = $1 and b.id = $2 and (b.expires_at is null or b.expires_at > $3) and b.user_id = $4
	and b.domain_id = any($5::uuid[])
order by m.id desc

-- All of $6 or none; what was found comes back. $7: how many they are. Each is looked up by itself, in one order for all who delete:
-- left to itself the planner goes through the whole mailbox. The limit lets it expect few, so that it keeps its plan. Whoever deletes or
-- changes the mailbox goes through its mails in an order of their own; the lock keeps the two apart.
-- name: mail_delete
with box as (
	select id from mailboxes
	where bucket = $1 and id = $2 and (expires_at is null or expires_at > $3) and user_id = $4 and domain_id = any($5::uuid[])
	for key share
), found as (
	select m.id, m.expiry_hour from box b cross join (select distinct id from unnest($6::uuid[]) w (id) order by id limit $7) w
	cross join lateral (
		select id, expiry_hour from messages where bucket = $1 and id = w.id and mailbox_id = b.id for update
	) m
), gone as (
	delete from messages m using found f where m.bucket = $1 and m.id = f.id and (select count(*) from found) = $7
	returning m.id, m.expiry_hour
), source as (
	delete from message_source s using gone g where s.bucket = $1 and s.id = g.id and s.expiry_hour = g.expiry_hour
)
select id from found

-- What a source's readers need. $6 mail.
-- name: mail_source reads
select b.expires_at, m.received_at, m.trace, m.size, m.parts, m.injected, m.digest, coalesce(m.authentication, a.results)
from mailboxes b, messages m left join message_authentication a on a.bucket = $1 and a.id = m.id
where b.bucket = $1 and b.id = $2 and (b.expires_at is null or b.expires_at > $3) and b.user_id = $4
	and b.domain_id = any($5::uuid[]) and m.bucket = $1 and m.id = $6 and m.mailbox_id = b.id

-- The hour is looked up, not passed: it changes when a mailbox is given more time, and prunes to one partition all the same.
-- $1 bucket, $2 mail, $3 chunk.
-- name: source_chunk reads
select codec, size, data from message_source
where bucket = $1 and id = $2 and chunk = $3 and expiry_hour = (select expiry_hour from messages where bucket = $1 and id = $2)

-- Injecting. The mailbox cannot go before the transaction has ended.
-- name: mailbox_share
select address, expires_at
from mailboxes
where bucket = $1 and id = $2 and (expires_at is null or expires_at > $3) and user_id = $4 and domain_id = any($5::uuid[])
for share

-- For a mail of the server's own, whoever's mailbox it is. $1 bucket, $2 address, $3 now.
-- name: mailbox_share_anybodys
select mailbox, box_address, ends_at, account, owner from mailbox_share_anybodys($1, $2, $3)

-- name: mail_insert
insert into messages (bucket, id, mailbox_id, received_at, expiry_hour, mail_from, rcpt_to, helo, tls, trace, from_address, from_name,
	to_list, cc_list, reply_to_list, subject, body_text, body_html, size, digest, parts, warnings, injected, user_id)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)

-- name: source_insert
insert into message_source (bucket, id, chunk, expiry_hour, codec, size, data, user_id) values ($1, $2, $3, $4, $5, $6, $7, $8)

-- Attachments.

-- The old table in the condition: whoever changed it meanwhile wins, and the caller reads it again.
-- $1 bucket, $2 mail, $3 old, $4 new.
-- name: mail_parts_swap
update messages set parts = $4 where bucket = $1 and id = $2 and parts = $3

-- name: mail_lock
select b.expires_at, m.received_at, m.size, m.parts, m.injected, m.expiry_hour
from mailboxes b, messages m
where b.bucket = $1 and b.id = $2 and (b.expires_at is null or b.expires_at > $3) and b.user_id = $4
	and b.domain_id = any($5::uuid[]) and m.bucket = $1 and m.id = $6 and m.mailbox_id = b.id
for update of m

-- name: mail_update_source
update messages set parts = $3, size = $4, digest = $5 where bucket = $1 and id = $2

-- name: source_cut
delete from message_source where bucket = $1 and id = $2 and expiry_hour = $3 and chunk >= $4
