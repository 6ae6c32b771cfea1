-- The base schema. The same file serves plain PostgreSQL and a Citus coordinator. Statements are separated by lines that
-- say "-- step"; minutemailctl runs each by itself inside one transaction per file.
--
-- bucket: the first 10 bits of SHA-256 of the canonical address (0..1023); it leads every key on mail data and is inside every
-- mailbox and message id. expiry_hour: whole hours since 1970, 2147483647 for never. Ids and times are made by the daemons.

create table plans (
	name text primary key,
	calls_per_day bigint,
	requests_per_minute int,
	active_mailboxes int,
	archived_mailboxes int,
	custom_domains int,
	members int
);
-- step
insert into plans values
	('free', 100, 60, 3, 3, 0, 1),
	('hobbyist', 1000, 120, 10, 25, 1, 1),
	('pro', 10000, 600, 50, 250, 5, 1),
	('team', 50000, 1200, 200, 1000, null, 5),
	('unlimited', null, null, null, null, null, null);
-- step
create table accounts (
	id uuid primary key,
	name text not null,
	plan text not null references plans,
	state text not null check (state in ('active', 'suspended')),
	created_at timestamptz not null
);
-- step
create table users (
	id uuid primary key,
	account_id uuid not null references accounts on delete cascade,
	email text not null unique,
	password_hash text,
	role text not null check (role in ('owner', 'member')),
	state text not null check (state in ('active', 'suspended')),
	created_at timestamptz not null
);
-- step
-- account_id null: a platform domain. A name can be claimed by many accounts, verified by one.
create table domains (
	id uuid primary key,
	account_id uuid references accounts on delete cascade,
	name text not null,
	status text not null check (status in ('pending', 'verified')),
	txt_token text,
	created_at timestamptz not null
);
-- step
create unique index domains_verified on domains (name) where status = 'verified';
-- step
create unique index domains_claim on domains (account_id, name);
-- step
create table api_keys (
	id uuid primary key,
	account_id uuid not null references accounts on delete cascade,
	user_id uuid not null references users on delete cascade,
	name text not null,
	hash bytea not null unique,
	last8 text not null,
	environment text not null check (environment in ('live', 'test')),
	scopes text[] not null,
	created_at timestamptz not null,
	expires_at timestamptz,
	revoked_at timestamptz,
	last_used_at timestamptz
);
-- step
create table api_key_domains (
	key_id uuid references api_keys on delete cascade,
	domain_id uuid references domains on delete cascade,
	primary key (key_id, domain_id)
);
-- step
create index api_key_domains_domain on api_key_domains (domain_id);
-- step
-- Live: expires_at is null (permanent) or in the future. Archived: recoverable and expires_at has passed; deleting a recoverable
-- mailbox sets expires_at to that instant, so archiving needs no job and no second table. Neither: dead, its address is free.
create table mailboxes (
	bucket smallint not null,
	id uuid not null,
	account_id uuid not null,
	user_id uuid not null,
	domain_id uuid not null,
	address text not null,
	recoverable boolean not null,
	tag text,
	created_at timestamptz not null,
	expires_at timestamptz,
	primary key (bucket, id)
);
-- step
create unique index mailboxes_address on mailboxes (bucket, address);
-- step
create index mailboxes_due on mailboxes (expires_at) where not recoverable;
-- step
-- What an account owns, so that listing never fans out. Rows may outlive their mailbox for a while; readers drop what is gone.
create table account_mailboxes (
	account_id uuid not null,
	mailbox_id uuid not null,
	user_id uuid not null,
	bucket smallint not null,
	domain_id uuid not null,
	recoverable boolean not null,
	expires_at timestamptz,
	primary key (account_id, mailbox_id)
);
-- step
create index account_mailboxes_user on account_mailboxes (account_id, user_id, mailbox_id);
-- step
-- A message lives as long as its mailbox; expiry_hour only says in which partition its source is.
create table messages (
	bucket smallint not null,
	id uuid not null,
	mailbox_id uuid not null,
	received_at timestamptz not null,
	expiry_hour int not null,
	mail_from text not null,
	rcpt_to text not null,
	helo text not null,
	tls text,
	trace text not null,
	from_address text,
	from_name text,
	to_list text not null,
	cc_list text not null,
	reply_to_list text not null,
	subject text,
	body_text text,
	body_html text,
	size bigint not null,
	digest bytea not null,
	parts bytea not null,
	warnings text not null,
	injected boolean not null,
	primary key (bucket, id)
);
-- step
comment on column messages.to_list is 'JSON array of strings, as are cc_list, reply_to_list and warnings; written and read as text';
-- step
alter table messages alter body_text set compression lz4;
-- step
alter table messages alter body_html set compression lz4;
-- step
alter table messages set (toast_tuple_target = 4080);
-- step
create index messages_list on messages (bucket, mailbox_id, id desc);
-- step
create index messages_due on messages (expiry_hour);
-- step
-- The exact octets in chunks of 262,144 (the last one shorter). codec 0: as they are, 1: one zstd frame. size: octets before
-- compression.
create table message_source (
	bucket smallint not null,
	id uuid not null,
	chunk int not null,
	expiry_hour int not null,
	codec smallint not null,
	size int not null,
	data bytea not null,
	primary key (bucket, id, chunk, expiry_hour)
) partition by range (expiry_hour);
-- step
alter table message_source alter data set storage external;
-- step
create table message_source_never partition of message_source for values from (2147483647) to (maxvalue);
-- step
create table message_source_default partition of message_source default;
