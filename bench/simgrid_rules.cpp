// What bench/study_simgrid.py changes in SimGrid 3.32, so that its rules hold for everybody (loaded by LD_PRELOAD):
//
// * A blocking send costs its sender the overhead, as a non-blocking one does; SimGrid charges only sends that return
//   before they are done, and lets MPI_Send of a large message go free.
// * Messages share links evenly. Its model CM02 gives a message a share inversely proportional to the latency of its
//   route, even with network/weight-S:0.
#include <dlfcn.h>
#include <smpi/mpi.h>

namespace simgrid {
namespace kernel {
namespace lmm {
class Variable;
class System {
public:
  void update_variable_penalty(Variable* variable, double penalty);
};
} // namespace lmm
} // namespace kernel
namespace smpi {
class Comm;
class Datatype;
class Request {
public:
  static void send(const void* buffer, int count, Datatype* type, int target, int tag, Comm* comm);
  static Request* isend(const void* buffer, int count, Datatype* type, int target, int tag, Comm* comm);
  static int wait(Request** request, MPI_Status* status);
};
} // namespace smpi
} // namespace simgrid

void simgrid::smpi::Request::send(const void* buffer, int count, Datatype* type, int target, int tag, Comm* comm)
{
  Request* request = isend(buffer, count, type, target, tag, comm);
  wait(&request, MPI_STATUS_IGNORE);
}

void simgrid::kernel::lmm::System::update_variable_penalty(Variable* variable, double penalty)
{
  using Original = void (*)(System*, Variable*, double);
  static const auto original = reinterpret_cast<Original>(
      dlsym(RTLD_NEXT, "_ZN7simgrid6kernel3lmm6System23update_variable_penaltyEPNS1_8VariableEd"));
  original(this, variable, penalty > 0 ? 1.0 : penalty);
}
