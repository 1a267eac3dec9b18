/* Runs a float signature of a SavedModel through TensorFlow's C API, which the loaders of TensorFlow
 * Serving, Go, Java and Rust share: no Python takes part.
 *
 * Usage: read_saved_model FOLDER INPUT OUTPUT FILE SIZE...
 *   INPUT, OUTPUT  names of tensors in the graph, without ":0" an index of 0 is taken
 *   FILE           float32 numbers of the input, in the machine's byte order
 *   SIZE...        the input's shape
 * Writes the output's shape, then its numbers, one a line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>

#define MAX_RANK 8

static void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void check(TF_Status *status, const char *what) {
  if (TF_GetCode(status) != TF_OK) fail(what, TF_Message(status));
}

/* "name:1" -> the operation's output 1. */
static TF_Output find_tensor(TF_Graph *graph, char *name) {
  char *colon = strrchr(name, ':');
  TF_Output tensor = {NULL, 0};
  if (colon != NULL) {
    *colon = '\0';
    tensor.index = atoi(colon + 1);
  }
  tensor.oper = TF_GraphOperationByName(graph, name);
  if (tensor.oper == NULL) fail(name, "no such operation");
  return tensor;
}

int main(int argc, char **argv) {
  if (argc < 6 || argc - 5 > MAX_RANK) fail(argv[0], "wrong number of arguments");
  const int rank = argc - 5;
  int64_t shape[MAX_RANK];
  size_t count = 1;
  for (int i = 0; i < rank; i++) {
    shape[i] = atoll(argv[5 + i]);
    count *= (size_t)shape[i];
  }

  TF_Tensor *input = TF_AllocateTensor(TF_FLOAT, shape, rank, count * sizeof(float));
  FILE *file = fopen(argv[4], "rb");
  if (file == NULL) fail(argv[4], "cannot be opened");
  if (fread(TF_TensorData(input), sizeof(float), count, file) != count) fail(argv[4], "too short");
  fclose(file);

  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status, "loading");

  TF_Output from = find_tensor(graph, argv[2]);
  TF_Output to = find_tensor(graph, argv[3]);
  TF_Tensor *output = NULL;
  TF_SessionRun(session, NULL, &from, &input, 1, &to, &output, 1, NULL, 0, NULL, status);
  check(status, "running");
  if (TF_TensorType(output) != TF_FLOAT) fail(argv[3], "is no tensor of floats");

  size_t total = 1;
  for (int i = 0; i < TF_NumDims(output); i++) {
    total *= (size_t)TF_Dim(output, i);
    printf("%lld ", (long long)TF_Dim(output, i));
  }
  printf("\n");
  const float *values = TF_TensorData(output);
  for (size_t i = 0; i < total; i++) printf("%.9g\n", values[i]);

  TF_DeleteTensor(input);
  TF_DeleteTensor(output);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
