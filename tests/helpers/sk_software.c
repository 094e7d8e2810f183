/* A FIDO key in software, as ssh-sk-helper loads it: the interface is OpenSSH's sk-api.h, version 10.
 *
 * The key's handle is its seed. It is always touched; where $SK_TOUCH names a FIFO, as soon as somebody writes into that.
 * Ed25519 and SHA-256 are libcrypto's, whose headers needn't be there.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define ED25519 0x01
#define GENERAL_ERROR (-1)
#define UNSUPPORTED (-2)
#define SEED 32
#define SIGNATURE 64
#define HASH 32
#define TOUCHED 0x01
#define NID_ED25519 1087

struct sk_option;
struct sk_resident_key;
struct sk_enroll_response {
	uint8_t flags;
	uint8_t *public_key;
	size_t public_key_len;
	uint8_t *key_handle;
	size_t key_handle_len;
	uint8_t *signature;
	size_t signature_len;
	uint8_t *attestation_cert;
	size_t attestation_cert_len;
	uint8_t *authdata;
	size_t authdata_len;
};
struct sk_sign_response {
	uint8_t flags;
	uint32_t counter;
	uint8_t *sig_r;
	size_t sig_r_len;
	uint8_t *sig_s;
	size_t sig_s_len;
};

void *EVP_PKEY_new_raw_private_key(int, void *, const uint8_t *, size_t);
int EVP_PKEY_get_raw_public_key(void *, uint8_t *, size_t *);
void *EVP_MD_CTX_new(void);
int EVP_DigestSignInit(void *, void *, void *, void *, void *);
int EVP_DigestSign(void *, uint8_t *, size_t *, const uint8_t *, size_t);
uint8_t *SHA256(const uint8_t *, size_t, uint8_t *);

uint32_t sk_api_version(void)
{
	return 0x000a0000;
}

int sk_enroll(uint32_t alg, const uint8_t *challenge, size_t challenge_len, const char *application, uint8_t flags,
	const char *pin, struct sk_option **options, struct sk_enroll_response **enrolled)
{
	struct sk_enroll_response *made = calloc(1, sizeof(*made));
	void *key;

	if (alg != ED25519)
		return UNSUPPORTED;
	made->flags = flags;
	made->key_handle_len = made->public_key_len = SEED;
	made->key_handle = malloc(SEED);
	made->public_key = malloc(SEED);
	if (getrandom(made->key_handle, SEED, 0) != SEED)
		return GENERAL_ERROR;
	key = EVP_PKEY_new_raw_private_key(NID_ED25519, NULL, made->key_handle, SEED);
	if (EVP_PKEY_get_raw_public_key(key, made->public_key, &made->public_key_len) != 1)
		return GENERAL_ERROR;
	/* Nothing of the attestation is used, but each part has to be there. */
	made->signature = calloc(1, made->signature_len = SIGNATURE);
	made->attestation_cert = calloc(1, made->attestation_cert_len = 1);
	made->authdata = calloc(1, made->authdata_len = 1);
	*enrolled = made;
	return 0;
}

static void wait_for_touch(void)
{
	const char *fifo = getenv("SK_TOUCH");
	char touch;
	int opened;

	if (!fifo)
		return;
	opened = open(fifo, O_RDONLY);
	if (read(opened, &touch, 1) != 1)
		abort();
	close(opened);
}

int sk_sign(uint32_t alg, const uint8_t *data, size_t data_len, const char *application, const uint8_t *handle,
	size_t handle_len, uint8_t flags, const char *pin, struct sk_option **options, struct sk_sign_response **signed_)
{
	struct sk_sign_response *made = calloc(1, sizeof(*made));
	uint8_t message[HASH + 1 + 4 + HASH];
	void *context = EVP_MD_CTX_new();

	if (alg != ED25519 || handle_len != SEED)
		return UNSUPPORTED;
	wait_for_touch();
	made->flags = flags | TOUCHED;
	made->counter = 7;
	SHA256((const uint8_t *)application, strlen(application), message);
	message[HASH] = made->flags;
	memcpy(message + HASH + 1, "\0\0\0\7", 4);
	SHA256(data, data_len, message + HASH + 1 + 4);
	made->sig_r = malloc(made->sig_r_len = SIGNATURE);
	EVP_DigestSignInit(context, NULL, NULL, NULL, EVP_PKEY_new_raw_private_key(NID_ED25519, NULL, handle, SEED));
	if (EVP_DigestSign(context, made->sig_r, &made->sig_r_len, message, sizeof(message)) != 1)
		return GENERAL_ERROR;
	*signed_ = made;
	return 0;
}

int sk_load_resident_keys(const char *pin, struct sk_option **options, struct sk_resident_key ***keys, size_t *count)
{
	return UNSUPPORTED;
}
