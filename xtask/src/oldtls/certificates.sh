# Certificates and keys as old sites have them, into the working directory. Passphrase of encrypted keys: open.
set -eu

cat >own.cnf <<'END'
[req]
distinguished_name = dn
prompt = no
[dn]
CN = unused
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
[named]
subjectAltName = DNS:localhost, IP:127.0.0.1
[elsewhere]
subjectAltName = DNS:logstash.example
[unnamed]
basicConstraints = CA:FALSE
[itself]
basicConstraints = critical, CA:TRUE
subjectAltName = DNS:localhost
[client]
extendedKeyUsage = clientAuth
[issue]
database = index.txt
serial = serial.txt
new_certs_dir = .
policy = any
default_md = sha256
[any]
commonName = supplied
END
: >index.txt
echo 01 >serial.txt

# key NAME BITS|ec
key() {
    if [ "$2" = ec ]; then openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; else openssl genrsa -out "$1.key" "$2"; fi
}

# request NAME KEY COMMON-NAME
request() { openssl req -new -config own.cnf -key "$2.key" -subj "/CN=$3" -out "$1.csr"; }

# issue NAME KEY COMMON-NAME EXTENSIONS DIGEST
issue() {
    request "$1" "$2" "$3"
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 "-$5" \
        -extfile own.cnf -extensions "$4" -out "$1.crt"
}

key ca 2048
openssl req -x509 -config own.cnf -extensions authority -key ca.key -subj "/CN=Old CA" -days 30 -out ca.crt
key server ec
key rsa 2048
key rsa1024 1024
issue server server localhost named sha256
issue rsa rsa localhost named sha256
issue rsa1024 rsa1024 localhost named sha256
issue cn-only server localhost unnamed sha256
issue other-name server logstash.example elsewhere sha256
issue sha1 server localhost named sha1
request expired server localhost
openssl ca -config own.cnf -name issue -batch -notext -in expired.csr -cert ca.crt -keyfile ca.key \
    -startdate 20010101000000Z -enddate 20020101000000Z -extensions named -out expired.crt
openssl req -x509 -config own.cnf -extensions itself -key server.key -subj /CN=localhost -days 30 -out self-signed.crt

issue client rsa job client sha256
openssl rsa -in rsa.key -aes256 -traditional -passout pass:open -out legacy.key
echo open >passphrase
openssl pkcs8 -topk8 -v2 aes-256-cbc -in rsa.key -passout pass:open -out encrypted.key
